/* Tickets as text; see ticket.h. */
#include "node/ticket.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "proto/check.h"

#define PREFIX	       "p2pt"
#define CHECKSUM_BYTES 5

_Static_assert(1 + 32 + 32 + 32 + 1 + 4 + 1 + P2P_NAME_MAX + 1 + P2P_TICKET_ADDRESSES_MAX * 19 +
			       CHECKSUM_BYTES <=
		       P2P_TICKET_BYTES_MAX,
	       "the longest ticket fits");

void p2p_ticket_invite(struct p2p_id *out, const uint8_t secret[P2P_KEY_BYTES])
{
	struct p2p_hasher hasher;

	p2p_hasher_init(&hasher, "p2pnode/invite/1", P2P_ID_BYTES);
	p2p_hasher_add(&hasher, secret, P2P_KEY_BYTES);
	p2p_hasher_final(&hasher, out->bytes, P2P_ID_BYTES);
}

bool p2p_ticket_name_ok(const char *name)
{
	size_t len = strnlen(name, P2P_NAME_MAX + 1), i;

	if (len == 0 || len > P2P_NAME_MAX || name[0] == '.' || name[0] == '-')
		return false;
	for (i = 0; i < len; i++)
		if (name[i] == '/' || (unsigned char)name[i] < 0x20 || name[i] == 0x7f)
			return false;
	return true;
}

static void checksum(uint8_t out[CHECKSUM_BYTES], const uint8_t *data, size_t len)
{
	struct p2p_hasher hasher;
	struct p2p_id hash;

	p2p_hasher_init(&hasher, "p2pnode/ticket/1", P2P_ID_BYTES);
	p2p_hasher_add(&hasher, data, len);
	p2p_hasher_final(&hasher, hash.bytes, P2P_ID_BYTES);
	memcpy(out, hash.bytes, CHECKSUM_BYTES);
}

static void put_address(struct p2p_buf *buf, const struct p2p_ticket_address *address)
{
	p2p_require(address->family == 4 || address->family == 6);
	p2p_buf_put_u8(buf, address->family);
	p2p_buf_put(buf, address->bytes, address->family == 4 ? 4 : 16);
	p2p_buf_put_u16(buf, address->port);
}

void p2p_ticket_format(char *text, const struct p2p_ticket *ticket)
{
	uint8_t bytes[P2P_TICKET_BYTES_MAX], sum[CHECKSUM_BYTES];
	/* over memory of our own: the secret must not stay behind in freed memory */
	struct p2p_buf buf = {.data = bytes, .cap = sizeof(bytes), .max = sizeof(bytes)};
	size_t i, name_len = p2p_ticket_name_ok(ticket->name) ? strlen(ticket->name) : 0;

	p2p_require(ticket->address_count <= P2P_TICKET_ADDRESSES_MAX);
	p2p_buf_put_u8(&buf, P2P_TICKET_VERSION);
	p2p_buf_put(&buf, ticket->mesh.bytes, P2P_HASH_BYTES);
	p2p_buf_put(&buf, ticket->issuer.bytes, P2P_KEY_BYTES);
	p2p_buf_put(&buf, ticket->secret, P2P_KEY_BYTES);
	p2p_buf_put_u8(&buf, ticket->role);
	p2p_buf_put_u32(&buf, ticket->expires_s);
	p2p_buf_put_u8(&buf, (uint8_t)name_len);
	p2p_buf_put(&buf, ticket->name, name_len);
	p2p_buf_put_u8(&buf, (uint8_t)ticket->address_count);
	for (i = 0; i < ticket->address_count; i++)
		put_address(&buf, &ticket->addresses[i]);
	checksum(sum, buf.data, buf.len);
	p2p_buf_put(&buf, sum, sizeof(sum));
	p2p_require(p2p_buf_error(&buf) == 0);
	p2p_require(buf.data == bytes);
	memcpy(text, PREFIX, strlen(PREFIX));
	p2p_base32(text + strlen(PREFIX), buf.data, buf.len);
	sodium_memzero(bytes, sizeof(bytes));
}

static bool read_address(struct p2p_reader *reader, struct p2p_ticket_address *out)
{
	out->family = p2p_read_u8(reader);
	if (out->family != 4 && out->family != 6)
		return false;
	p2p_read_into(reader, out->bytes, out->family == 4 ? 4 : 16);
	out->port = p2p_read_u16(reader);
	return out->port != 0;
}

/* All fields after the version; false when they do not fill the bytes exactly. */
static bool read_fields(struct p2p_reader *reader, struct p2p_ticket *out)
{
	size_t i, len;

	p2p_read_into(reader, out->mesh.bytes, P2P_HASH_BYTES);
	p2p_read_into(reader, out->issuer.bytes, P2P_KEY_BYTES);
	p2p_read_into(reader, out->secret, P2P_KEY_BYTES);
	out->role = p2p_read_u8(reader);
	out->expires_s = p2p_read_u32(reader);
	len = p2p_read_u8(reader);
	if (len > P2P_NAME_MAX)
		return false;
	p2p_read_into(reader, out->name, len);
	out->name[len] = 0;
	if (len && (strlen(out->name) != len || !p2p_ticket_name_ok(out->name)))
		return false;
	out->address_count = p2p_read_u8(reader);
	if (out->address_count > P2P_TICKET_ADDRESSES_MAX)
		return false;
	for (i = 0; i < out->address_count; i++)
		if (!read_address(reader, &out->addresses[i]))
			return false;
	return p2p_reader_error(reader) == 0 && p2p_reader_left(reader) == 0;
}

/* "7-otter-marble-482" */
static bool looks_like_code(const char *text)
{
	size_t words = 0;

	if (!isdigit((unsigned char)text[0]) || strlen(text) > 64)
		return false;
	for (; *text; text++)
		words += *text == '-';
	return words >= 2;
}

static int parse_letters(const char *text, uint8_t *bytes, size_t *out_len, struct p2p_error *err)
{
	size_t i;

	for (i = 0; text[i]; i++) {
		unsigned char c = (unsigned char)text[i];

		if (isspace(c) || c == '-' || (c >= '2' && c <= '7') || (c < 0x80 && isalpha(c)))
			continue;
		return p2p_error_set(err, P2P_EINVAL,
				     "ticket: no ticket has the character at place %zu (only "
				     "letters and the digits 2 to 7): mistyped",
				     i + 1 + strlen(PREFIX));
	}
	if (p2p_unbase32(bytes, P2P_TICKET_BYTES_MAX, out_len, text))
		return p2p_error_set(err, P2P_EINVAL,
				     "ticket: a letter is missing or too many at its end");
	return 0;
}

static int parse_bytes(struct p2p_ticket *out, const uint8_t *bytes, size_t len,
		       struct p2p_error *err)
{
	uint8_t sum[CHECKSUM_BYTES];
	struct p2p_reader reader;

	if (len <= 1 + CHECKSUM_BYTES)
		return p2p_error_set(err, P2P_EINVAL, "ticket: too short: not copied whole");
	checksum(sum, bytes, len - CHECKSUM_BYTES);
	if (memcmp(sum, bytes + len - CHECKSUM_BYTES, CHECKSUM_BYTES) != 0)
		return p2p_error_set(err, P2P_EINVAL,
				     "ticket: its checksum does not fit: mistyped, or not copied "
				     "whole");
	p2p_reader_init(&reader, bytes, len - CHECKSUM_BYTES);
	if (p2p_read_u8(&reader) != P2P_TICKET_VERSION)
		return p2p_error_set(err, P2P_ENEWER,
				     "ticket: of version %u, this program reads version %u",
				     bytes[0], P2P_TICKET_VERSION);
	if (!read_fields(&reader, out))
		return p2p_error_set(err, P2P_EINVAL,
				     "ticket: its content is damaged, though its checksum fits");
	return 0;
}

int p2p_ticket_parse(struct p2p_ticket *out, const char *text, struct p2p_error *err)
{
	uint8_t bytes[P2P_TICKET_BYTES_MAX];
	struct p2p_ticket ticket = {0};
	size_t len = 0;
	int rc;

	while (isspace((unsigned char)*text))
		text++;
	if (looks_like_code(text))
		return p2p_error_set(err, P2P_EINVAL,
				     "'%.64s' looks like a short code: codes come in a later "
				     "version, please use the ticket",
				     text);
	if (strncasecmp(text, PREFIX, strlen(PREFIX)) != 0)
		return p2p_error_set(err, P2P_EINVAL,
				     "not a ticket: tickets begin with '" PREFIX "'");
	rc = parse_letters(text + strlen(PREFIX), bytes, &len, err);
	if (!rc)
		rc = parse_bytes(&ticket, bytes, len, err);
	if (!rc)
		*out = ticket;
	sodium_memzero(bytes, sizeof(bytes));
	p2p_ticket_wipe(&ticket);
	return rc;
}

void p2p_ticket_wipe(struct p2p_ticket *ticket)
{
	sodium_memzero(ticket, sizeof(*ticket));
}

void p2p_ticket_address_text(const struct p2p_ticket_address *address, char out[64])
{
	char host[INET6_ADDRSTRLEN] = "";

	(void)inet_ntop(address->family == 4 ? AF_INET : AF_INET6, address->bytes, host,
			sizeof(host)); /* the family is one of the two: cannot fail */
	(void)snprintf(out, 64, address->family == 4 ? "%s:%u" : "[%s]:%u", host, address->port);
}
