/* Ids, hashes and their texts; see ident.h. */
#include "proto/ident.h"

#include <ctype.h>
#include <sodium.h>
#include <string.h>

#include "proto/check.h"

_Static_assert(sizeof(struct p2p_hasher) >= sizeof(crypto_generichash_state), "state fits");
_Static_assert(_Alignof(struct p2p_hasher) >= _Alignof(crypto_generichash_state), "aligned");

int p2p_id_cmp(const struct p2p_id *a, const struct p2p_id *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

int p2p_hash_cmp(const struct p2p_hash *a, const struct p2p_hash *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

int p2p_key_cmp(const struct p2p_key *a, const struct p2p_key *b)
{
	return memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

int p2p_clock_cmp(const struct p2p_clock *a, const struct p2p_clock *b)
{
	if (a->stamp.value != b->stamp.value)
		return a->stamp.value < b->stamp.value ? -1 : 1;
	return p2p_id_cmp(&a->replica, &b->replica);
}

static crypto_generichash_state *hasher_state(struct p2p_hasher *hasher)
{
	return (crypto_generichash_state *)(void *)hasher->state;
}

void p2p_hasher_init(struct p2p_hasher *hasher, const char *domain, size_t out_len)
{
	p2p_require(out_len == P2P_ID_BYTES || out_len == P2P_HASH_BYTES);
	(void)crypto_generichash_init(hasher_state(hasher), NULL, 0, out_len); /* cannot fail */
	p2p_hasher_add(hasher, domain, strlen(domain));
}

static void hasher_put_u64(struct p2p_hasher *hasher, uint64_t value)
{
	uint8_t bytes[8];
	unsigned int i;

	for (i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(value >> (56 - 8 * i));
	(void)crypto_generichash_update(hasher_state(hasher), bytes, sizeof(bytes));
}

void p2p_hasher_add(struct p2p_hasher *hasher, const void *part, size_t len)
{
	hasher_put_u64(hasher, len);
	(void)crypto_generichash_update(hasher_state(hasher), part, len);
}

void p2p_hasher_add_u64(struct p2p_hasher *hasher, uint64_t value)
{
	hasher_put_u64(hasher, 8);
	hasher_put_u64(hasher, value);
}

void p2p_hasher_final(struct p2p_hasher *hasher, void *out, size_t out_len)
{
	(void)crypto_generichash_final(hasher_state(hasher), out, out_len);
}

void p2p_hash_bytes(struct p2p_hash *out, const void *data, size_t len)
{
	(void)crypto_generichash(out->bytes, sizeof(out->bytes), data, len, NULL, 0);
}

static void hasher_add_lower(struct p2p_hasher *hasher, const char *name)
{
	size_t len = strlen(name), i;

	hasher_put_u64(hasher, len);
	for (i = 0; i < len; i++) {
		/* ASCII only, as SQLite folds names, whatever the locale */
		uint8_t c = (uint8_t)name[i];

		if (c >= 'A' && c <= 'Z')
			c = (uint8_t)(c + ('a' - 'A'));
		(void)crypto_generichash_update(hasher_state(hasher), &c, 1);
	}
}

void p2p_kdf(uint8_t out[P2P_KEY_BYTES], const uint8_t secret[P2P_KEY_BYTES], const char *label)
{
	static const char domain[] = "p2pnode/kdf/1";
	crypto_generichash_state state;

	p2p_require(label != NULL);
	p2p_require(crypto_generichash_init(&state, secret, P2P_KEY_BYTES, P2P_KEY_BYTES) == 0);
	p2p_require(crypto_generichash_update(&state, (const uint8_t *)domain, strlen(domain)) ==
		    0);
	p2p_require(crypto_generichash_update(&state, (const uint8_t *)label, strlen(label)) == 0);
	p2p_require(crypto_generichash_final(&state, out, P2P_KEY_BYTES) == 0);
	sodium_memzero(&state, sizeof(state));
}

void p2p_replica_id_bind(struct p2p_id *id, const struct p2p_key *node)
{
	struct p2p_hasher hasher;
	struct p2p_hash hash;

	p2p_hasher_init(&hasher, "p2pnode/replica/1", P2P_HASH_BYTES);
	p2p_hasher_add(&hasher, node->bytes, P2P_KEY_BYTES);
	p2p_hasher_add(&hasher, id->bytes, P2P_REPLICA_RANDOM_BYTES);
	p2p_hasher_final(&hasher, hash.bytes, P2P_HASH_BYTES);
	memcpy(id->bytes + P2P_REPLICA_RANDOM_BYTES, hash.bytes,
	       P2P_ID_BYTES - P2P_REPLICA_RANDOM_BYTES);
}

bool p2p_replica_id_fits(const struct p2p_id *id, const struct p2p_key *node)
{
	struct p2p_id bound = *id;

	p2p_replica_id_bind(&bound, node);
	return p2p_id_cmp(&bound, id) == 0;
}

void p2p_table_id(struct p2p_id *out, const char *name)
{
	struct p2p_hasher hasher;

	p2p_hasher_init(&hasher, "p2pnode/table/1", P2P_ID_BYTES);
	hasher_add_lower(&hasher, name);
	p2p_hasher_final(&hasher, out->bytes, P2P_ID_BYTES);
}

void p2p_column_id(struct p2p_id *out, const struct p2p_id *table, const char *name)
{
	struct p2p_hasher hasher;

	p2p_hasher_init(&hasher, "p2pnode/column/1", P2P_ID_BYTES);
	p2p_hasher_add(&hasher, table->bytes, P2P_ID_BYTES);
	hasher_add_lower(&hasher, name);
	p2p_hasher_final(&hasher, out->bytes, P2P_ID_BYTES);
}

void p2p_number_row_id(struct p2p_id *out, const struct p2p_id *table, int64_t number)
{
	struct p2p_hasher hasher;

	p2p_hasher_init(&hasher, "p2pnode/row-number/1", P2P_ID_BYTES);
	p2p_hasher_add(&hasher, table->bytes, P2P_ID_BYTES);
	p2p_hasher_add_u64(&hasher, (uint64_t)number);
	p2p_hasher_final(&hasher, out->bytes, P2P_ID_BYTES);
}

void p2p_generated_row_id(struct p2p_id *out, const struct p2p_id *replica,
			  const struct p2p_id *table, int64_t number, int64_t journal_id,
			  int64_t journal_ms)
{
	struct p2p_hasher hasher;

	p2p_hasher_init(&hasher, "p2pnode/row-generated/1", P2P_ID_BYTES);
	p2p_hasher_add(&hasher, replica->bytes, P2P_ID_BYTES);
	p2p_hasher_add(&hasher, table->bytes, P2P_ID_BYTES);
	p2p_hasher_add_u64(&hasher, (uint64_t)number);
	p2p_hasher_add_u64(&hasher, (uint64_t)journal_id);
	p2p_hasher_add_u64(&hasher, (uint64_t)journal_ms);
	p2p_hasher_final(&hasher, out->bytes, P2P_ID_BYTES);
}

void p2p_hex(char *out, const void *data, size_t len)
{
	(void)sodium_bin2hex(out, 2 * len + 1, data, len);
}

int p2p_unhex(void *out, size_t len, const char *text)
{
	size_t i;

	if (strlen(text) != 2 * len)
		return P2P_EINVAL;
	for (i = 0; i < 2 * len; i++)
		if (!isxdigit((unsigned char)text[i]))
			return P2P_EINVAL;
	(void)sodium_hex2bin(out, len, text, 2 * len, NULL, NULL, NULL); /* checked above */
	return 0;
}

size_t p2p_base32_len(size_t len)
{
	return (len * 8 + 4) / 5;
}

void p2p_base32(char *out, const void *data, size_t len)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567";
	const uint8_t *bytes = data;
	uint32_t acc = 0;
	unsigned int bits = 0;
	size_t i, at = 0;

	for (i = 0; i < len; i++) {
		acc = (acc << 8 | bytes[i]) & 0xfff;
		for (bits += 8; bits >= 5; bits -= 5)
			out[at++] = letters[acc >> (bits - 5) & 31];
	}
	if (bits)
		out[at++] = letters[acc << (5 - bits) & 31];
	out[at] = 0;
	p2p_require(at == p2p_base32_len(len));
}

static int base32_digit(char c)
{
	if (c >= 'a' && c <= 'z')
		return c - 'a';
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= '2' && c <= '7')
		return c - '2' + 26;
	return -1;
}

int p2p_unbase32(void *out, size_t max, size_t *out_len, const char *text)
{
	uint8_t *bytes = out;
	uint32_t acc = 0;
	unsigned int bits = 0;
	size_t at = 0;

	for (; *text; text++) {
		int digit;

		if (*text == '-' || isspace((unsigned char)*text))
			continue;
		digit = base32_digit(*text);
		if (digit < 0)
			return P2P_EINVAL;
		acc = (acc << 5 | (uint32_t)digit) & 0xfff;
		bits += 5;
		if (bits < 8)
			continue;
		if (at == max)
			return P2P_EINVAL;
		bits -= 8;
		bytes[at++] = (uint8_t)(acc >> bits);
	}
	if (bits >= 5 || (acc & ((1u << bits) - 1)))
		return P2P_EINVAL; /* a letter too many, or bits that no encoder writes */
	*out_len = at;
	return 0;
}
