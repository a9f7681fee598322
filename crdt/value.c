/* SQLite values outside SQLite; see value.h. */
#include "crdt/value.h"

#include <sodium.h>
#include <sqlite3.h>
#include <string.h>

#include "proto/check.h"
#include "proto/limits.h"

_Static_assert(sizeof(double) == 8, "REAL is an IEEE 754 double");
_Static_assert(P2P_VALUE_BYTES_MAX <= INT32_MAX, "SQLite takes int lengths");

static uint64_t real_bits(double real)
{
	uint64_t bits;

	memcpy(&bits, &real, sizeof(bits));
	return bits;
}

static double bits_real(uint64_t bits)
{
	double real;

	memcpy(&real, &bits, sizeof(real));
	return real;
}

int p2p_value_column(struct p2p_value *out, sqlite3_stmt *stmt, int column)
{
	int type = sqlite3_column_type(stmt, column);
	bool text = type == SQLITE_TEXT;

	memset(out, 0, sizeof(*out));
	switch (type) {
	case SQLITE_INTEGER:
		out->type = P2P_INTEGER;
		out->integer = sqlite3_column_int64(stmt, column);
		return 0;
	case SQLITE_FLOAT:
		out->type = P2P_REAL;
		out->real = sqlite3_column_double(stmt, column);
		return 0;
	case SQLITE_TEXT:
	case SQLITE_BLOB:
		out->type = text ? P2P_TEXT : P2P_BLOB;
		out->bytes = text ? sqlite3_column_text(stmt, column)
				  : sqlite3_column_blob(stmt, column);
		out->len = (size_t)sqlite3_column_bytes(stmt, column);
		if (!out->bytes && (text || out->len))
			return P2P_ENOMEM;
		if (!out->bytes)
			out->bytes = (const uint8_t *)""; /* SQLite gives NULL for an empty BLOB */
		return out->len > P2P_VALUE_BYTES_MAX ? P2P_ETOOBIG : 0;
	default:
		out->type = P2P_NULL;
		return 0;
	}
}

int p2p_value_bind(sqlite3_stmt *stmt, int index, const struct p2p_value *value)
{
	int rc = SQLITE_MISUSE;

	switch (value->type) {
	case P2P_NULL:
		rc = sqlite3_bind_null(stmt, index);
		break;
	case P2P_INTEGER:
		rc = sqlite3_bind_int64(stmt, index, value->integer);
		break;
	case P2P_REAL:
		rc = sqlite3_bind_double(stmt, index, value->real);
		break;
	case P2P_TEXT:
		rc = sqlite3_bind_text64(stmt, index, (const char *)value->bytes, value->len,
					 SQLITE_STATIC, SQLITE_UTF8);
		break;
	case P2P_BLOB:
		rc = sqlite3_bind_blob64(stmt, index, value->bytes, value->len, SQLITE_STATIC);
		break;
	}
	if (rc == SQLITE_NOMEM)
		return P2P_ENOMEM;
	if (rc == SQLITE_TOOBIG)
		return P2P_ETOOBIG;
	p2p_require(rc == SQLITE_OK);
	return 0;
}

void p2p_value_put(struct p2p_buf *buf, const struct p2p_value *value)
{
	p2p_buf_put_u8(buf, (uint8_t)value->type);
	switch (value->type) {
	case P2P_NULL:
		break;
	case P2P_INTEGER:
		p2p_buf_put_zigzag(buf, value->integer);
		break;
	case P2P_REAL:
		p2p_buf_put_u64(buf, real_bits(value->real));
		break;
	case P2P_TEXT:
	case P2P_BLOB:
		p2p_buf_put_bytes(buf, value->bytes, value->len);
		break;
	}
}

void p2p_value_read_tagged(struct p2p_reader *reader, uint8_t tag, struct p2p_value *out)
{
	memset(out, 0, sizeof(*out));
	switch (tag) {
	case P2P_NULL:
		out->type = P2P_NULL;
		return;
	case P2P_INTEGER:
		out->type = P2P_INTEGER;
		out->integer = p2p_read_zigzag(reader);
		return;
	case P2P_REAL:
		out->type = P2P_REAL;
		out->real = bits_real(p2p_read_u64(reader));
		return;
	case P2P_TEXT:
	case P2P_BLOB:
		out->type = tag == P2P_TEXT ? P2P_TEXT : P2P_BLOB;
		out->bytes = p2p_read_bytes(reader, P2P_VALUE_BYTES_MAX, &out->len);
		return;
	default:
		reader->failed = true;
	}
}

void p2p_value_read(struct p2p_reader *reader, struct p2p_value *out)
{
	p2p_value_read_tagged(reader, p2p_read_u8(reader), out);
}

int p2p_value_cmp(const struct p2p_value *a, const struct p2p_value *b)
{
	size_t len;
	int rc;

	if (a->type != b->type)
		return a->type < b->type ? -1 : 1;
	switch (a->type) {
	case P2P_NULL:
		return 0;
	case P2P_INTEGER:
		return (a->integer > b->integer) - (a->integer < b->integer);
	case P2P_REAL:
		return (real_bits(a->real) > real_bits(b->real)) -
		       (real_bits(a->real) < real_bits(b->real));
	case P2P_TEXT:
	case P2P_BLOB:
		len = a->len < b->len ? a->len : b->len;
		rc = len ? memcmp(a->bytes, b->bytes, len) : 0;
		return rc ? rc : (a->len > b->len) - (a->len < b->len);
	}
	p2p_unreachable();
}

bool p2p_value_equal(const struct p2p_value *a, const struct p2p_value *b)
{
	return p2p_value_cmp(a, b) == 0;
}

static uint64_t siphash(const struct p2p_hash_key *key, const void *data, size_t len)
{
	uint8_t out[crypto_shorthash_BYTES];
	uint64_t hash;

	_Static_assert(crypto_shorthash_KEYBYTES == sizeof(key->bytes), "key size");
	_Static_assert(crypto_shorthash_BYTES == sizeof(hash), "hash size");
	(void)crypto_shorthash(out, data, len, key->bytes); /* cannot fail */
	memcpy(&hash, out, sizeof(hash));
	return hash;
}

uint64_t p2p_value_hash(const struct p2p_hash_key *key, const struct p2p_value *value)
{
	uint64_t word = 0, hash;

	switch (value->type) {
	case P2P_NULL:
		break;
	case P2P_INTEGER:
		word = (uint64_t)value->integer;
		break;
	case P2P_REAL:
		word = real_bits(value->real);
		break;
	case P2P_TEXT:
	case P2P_BLOB:
		word = siphash(key, value->bytes, value->len);
		break;
	}
	{
		uint64_t block[2] = {(uint64_t)value->type, word};

		hash = siphash(key, block, sizeof(block));
	}
	return hash ? hash : 1;
}
