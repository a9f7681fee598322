/* Tickets: text as a person pastes it, and bytes whose checksum is right. */
#include <ctype.h>
#include <string.h>

#include "node/ticket.h"
#include "tests/fuzz/fuzz.h"

#define BYTES_MAX 600
#define TEXT_MAX  1200

enum { TEXT, BYTES, SPACED, FORMS };

static bool same(const struct p2p_ticket *a, const struct p2p_ticket *b)
{
	size_t i;

	for (i = 0; i < a->address_count && i < b->address_count; i++) {
		const struct p2p_ticket_address *x = &a->addresses[i], *y = &b->addresses[i];

		if (x->family != y->family || x->port != y->port ||
		    memcmp(x->bytes, y->bytes, x->family == 4 ? 4 : 16) != 0)
			return false;
	}
	return p2p_hash_cmp(&a->mesh, &b->mesh) == 0 && p2p_key_cmp(&a->issuer, &b->issuer) == 0 &&
	       memcmp(a->secret, b->secret, P2P_KEY_BYTES) == 0 && a->role == b->role &&
	       a->expires_s == b->expires_s && strcmp(a->name, b->name) == 0 &&
	       a->address_count == b->address_count;
}

static void check_again(const struct p2p_ticket *ticket)
{
	char text[P2P_TICKET_TEXT_MAX], address[64];
	struct p2p_ticket again;
	struct p2p_error err = {0};
	size_t i;

	p2p_require(ticket->address_count <= P2P_TICKET_ADDRESSES_MAX);
	p2p_require(ticket->name[0] == 0 || p2p_ticket_name_ok(ticket->name));
	for (i = 0; i < ticket->address_count; i++) {
		p2p_require(ticket->addresses[i].port != 0);
		p2p_ticket_address_text(&ticket->addresses[i], address);
		p2p_require(strchr(address, ':') != NULL);
	}
	p2p_ticket_format(text, ticket);
	p2p_require(strlen(text) < P2P_TICKET_TEXT_MAX);
	fuzz_ok(p2p_ticket_parse(&again, text, &err));
	p2p_require(same(ticket, &again));
	/* one letter that is another one is never the same ticket */
	i = ticket->expires_s % strlen(text);
	text[i] = text[i] == 'a' ? 'b' : 'a';
	p2p_require(p2p_ticket_parse(&again, text, &err) != 0);
}

/* The bytes of a ticket with the checksum that they need, as text. */
static void text_of(char out[TEXT_MAX], const uint8_t *bytes, size_t len, bool spaced)
{
	uint8_t all[BYTES_MAX + 5];
	char letters[TEXT_MAX];
	struct p2p_hasher hasher;
	struct p2p_id sum;
	size_t i, at = 4;

	memcpy(all, bytes, len);
	p2p_hasher_init(&hasher, "p2pnode/ticket/1", P2P_ID_BYTES);
	p2p_hasher_add(&hasher, bytes, len);
	p2p_hasher_final(&hasher, sum.bytes, P2P_ID_BYTES);
	memcpy(all + len, sum.bytes, 5);
	p2p_base32(letters, all, len + 5);
	memcpy(out, "p2pt", 4);
	for (i = 0; letters[i]; i++) {
		if (spaced && i % 7 == 3 && at < TEXT_MAX - 3)
			out[at++] = i % 2 ? '-' : '\n';
		if (at < TEXT_MAX - 1)
			out[at++] = spaced ? (char)toupper(letters[i]) : letters[i];
	}
	out[at] = 0;
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);
	uint32_t form = fuzz_below(&in, FORMS);
	struct p2p_ticket ticket, untouched;
	struct p2p_error err = {0};
	char text[TEXT_MAX] = {0};
	const uint8_t *bytes;
	size_t taken;
	int rc;

	bytes = fuzz_take(&in, BYTES_MAX, &taken);
	if (form == TEXT)
		memcpy(text, bytes, taken);
	else
		text_of(text, bytes, taken, form == SPACED);
	memset(&ticket, 0x5a, sizeof(ticket));
	untouched = ticket;
	rc = p2p_ticket_parse(&ticket, text, &err);
	if (rc) {
		p2p_require(rc == P2P_EINVAL || rc == P2P_ENEWER);
		p2p_require(err.code == rc);
		p2p_require(err.msg[0]);
		p2p_require(memcmp(&ticket, &untouched, sizeof(ticket)) == 0);
		return;
	}
	check_again(&ticket);
	fuzz_deep();
}

static void seed(const char *name, const char *file, size_t addresses)
{
	uint8_t input[BYTES_MAX] = {BYTES, P2P_TICKET_VERSION};
	size_t at = 2 + 96 + 1 + 4, i;

	memset(input + 2, 0x11, 96);
	input[98] = 2; /* role */
	input[99] = 0x70;
	input[at++] = (uint8_t)strlen(file);
	memcpy(input + at, file, strlen(file));
	at += strlen(file);
	input[at++] = (uint8_t)addresses;
	for (i = 0; i < addresses; i++) {
		input[at] = i % 2 ? 6 : 4;
		input[at + 1] = 127;
		at += i % 2 ? 17u : 5u;
		input[at++] = 0x10;
		input[at++] = 0x92;
	}
	fuzz_seed(name, input, at);
	input[0] = SPACED;
	if (addresses == 2)
		fuzz_seed("spaced", input, at);
}

static void seeds(void)
{
	seed("plain", "", 0);
	seed("name", "shop.db", 0);
	seed("addresses", "shop.db", 6);
	seed("two", "a", 2);
	seed("bad_name", "../shop.db", 1);
	seed("too_many", "shop.db", 7);
	fuzz_seed("text", "\0p2ptaaaaaaaa-bbbb", 18);
	fuzz_seed("code", "\0007-otter-marble-482", 19);
	fuzz_seed("foreign", "\0P2PT 0189", 10);
	fuzz_seed("newer", "\1\2aaaaaaaaaaaaaaaa", 18);
}

const struct fuzz_target fuzz_target = {.name = "ticket",
					.len_max = 1 + BYTES_MAX,
					.memory_max = 0,
					.cpu_ms_max = 50,
					.one = one,
					.seeds = seeds};
