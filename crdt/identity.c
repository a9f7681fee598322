/* Identity of a row by its key: values as SQLite compares them; see schema.h.
 *
 * Two keys are equal for SQLite exactly if their canonical bytes are equal. Values that come from
 * the table have its affinity already; those of a peer whose schema differs may not, so it is
 * applied here too. */
#include <errno.h>
#include <locale.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "crdt/schema.h"
#include "proto/check.h"
#include "proto/limits.h"
#include "proto/mem.h"

static void real_to_integer(struct p2p_value *value)
{
	/* 2^63 is exact; the comparison is false for NaN */
	if (!(value->real >= -9223372036854775808.0 && value->real < 9223372036854775808.0) ||
	    value->real != (double)(int64_t)value->real)
		return;
	value->integer = (int64_t)value->real;
	value->type = P2P_INTEGER;
}

/* As SQLite does it: the two ends of the range stay REAL. */
static void real_to_stored(struct p2p_value *value)
{
	struct p2p_value integer = *value;

	real_to_integer(&integer);
	if (integer.type == P2P_INTEGER && integer.integer > INT64_MIN &&
	    integer.integer < INT64_MAX)
		*value = integer;
}

static size_t skip_digits(const char *text, size_t at)
{
	while (text[at] >= '0' && text[at] <= '9')
		at++;
	return at;
}

static size_t skip_spaces(const char *text, size_t at)
{
	while (text[at] == ' ' || (text[at] >= '\t' && text[at] <= '\r'))
		at++;
	return at;
}

static size_t skip_sign(const char *text, size_t at)
{
	return at + (text[at] == '-' || text[at] == '+');
}

/* A number as SQLite reads one: sign, digits with a point and an exponent, spaces around. */
static bool text_is_number(const char *text, size_t len, bool *out_integer)
{
	size_t at = skip_sign(text, skip_spaces(text, 0));
	size_t start = at, count;

	at = skip_digits(text, at);
	count = at - start;
	*out_integer = true;
	if (text[at] == '.') {
		*out_integer = false;
		start = ++at;
		at = skip_digits(text, at);
		count += at - start;
	}
	if (!count)
		return false;
	if (text[at] == 'e' || text[at] == 'E') {
		*out_integer = false;
		start = at = skip_sign(text, at + 1);
		at = skip_digits(text, at);
		if (at == start)
			return false;
	}
	return skip_spaces(text, at) == len;
}

/* The application's locale must not matter. */
static int text_to_real(const char *text, double *out)
{
	locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);

	if (!plain)
		return P2P_ENOMEM;
	*out = strtod_l(text, NULL, plain);
	freelocale(plain);
	return 0;
}

/* TEXT that a column of numbers stores as a number. */
static int text_to_number(struct p2p_value *value)
{
	char *text = p2p_malloc(value->len + 1);
	bool integer;
	int rc = 0;

	if (!text)
		return P2P_ENOMEM;
	if (value->len)
		memcpy(text, value->bytes, value->len);
	text[value->len] = 0;
	if (text_is_number(text, value->len, &integer)) {
		errno = 0;
		value->integer = strtoll(text, NULL, 10);
		value->type = P2P_INTEGER;
		if (!integer || errno) {
			value->type = P2P_REAL;
			rc = text_to_real(text, &value->real);
			real_to_stored(value);
		}
	}
	p2p_free(text);
	return rc;
}

/* A number that a column of text stores as text. */
static void number_to_text(struct p2p_value *value, char text[P2P_NUMBER_TEXT_BYTES])
{
	if (value->type == P2P_INTEGER)
		(void)sqlite3_snprintf(P2P_NUMBER_TEXT_BYTES, text, "%lld",
				       (long long)value->integer);
	else
		(void)sqlite3_snprintf(P2P_NUMBER_TEXT_BYTES, text, "%!.15g", value->real);
	value->type = P2P_TEXT;
	value->bytes = (const uint8_t *)text;
	value->len = strlen(text);
}

int p2p_value_as_stored(struct p2p_value *value, char affinity, char text[P2P_NUMBER_TEXT_BYTES])
{
	bool numeric = affinity == 'C' || affinity == 'D' || affinity == 'E';
	int rc = 0;

	if (value->type == P2P_REAL && value->real != value->real)
		memset(value, 0, sizeof(*value)); /* NaN is stored as NULL */
	if (value->type == P2P_REAL && value->real == 0 && (numeric || affinity == 'B'))
		value->real = 0; /* -0.0 loses its sign */
	if (affinity == 'B' && (value->type == P2P_INTEGER || value->type == P2P_REAL))
		number_to_text(value, text);
	if (numeric && value->type == P2P_TEXT)
		rc = text_to_number(value);
	if (affinity == 'E' && value->type == P2P_INTEGER) {
		value->type = P2P_REAL; /* above 2^53 it loses its last digits */
		value->real = (double)value->integer;
	} else if (numeric && affinity != 'E' && value->type == P2P_REAL) {
		real_to_stored(value);
	}
	return rc;
}

/* Applies the column's affinity; integral numbers become INTEGER, for 1 and 1.0 are one key. */
static int value_fold(struct p2p_value *value, char affinity, char text[P2P_NUMBER_TEXT_BYTES])
{
	int rc = p2p_value_as_stored(value, affinity, text);

	if (!rc && value->type == P2P_REAL)
		real_to_integer(value);
	return rc;
}

/* SQLite's NOCASE folds ASCII, and stops looking at a NUL: what follows counts by its length only.
 */
static void put_nocase(struct p2p_buf *out, const struct p2p_value *value)
{
	bool ended = false;
	uint8_t *to;
	size_t i;

	p2p_buf_put_u8(out, P2P_TEXT);
	p2p_buf_put_varint(out, value->len);
	to = p2p_buf_reserve(out, value->len);
	if (!to)
		return;
	for (i = 0; i < value->len; i++) {
		uint8_t c = value->bytes[i];

		ended |= c == 0;
		if (c >= 'A' && c <= 'Z')
			c = (uint8_t)(c + ('a' - 'A'));
		to[i] = ended ? 0 : c;
	}
	out->len += value->len;
}

static void put_folded(struct p2p_buf *out, struct p2p_value *value, enum p2p_collation collation)
{
	if (value->type == P2P_TEXT && collation == P2P_COLLATE_NOCASE) {
		put_nocase(out, value);
		return;
	}
	if (value->type == P2P_TEXT && collation == P2P_COLLATE_RTRIM)
		while (value->len && value->bytes[value->len - 1] == ' ')
			value->len--;
	p2p_value_put(out, value);
}

/* Or would be, once it is stored. */
static bool is_null(const struct p2p_value *value)
{
	return value->type == P2P_NULL || (value->type == P2P_REAL && value->real != value->real);
}

int p2p_value_put_canonical(struct p2p_buf *out, const struct p2p_value *value, char affinity,
			    enum p2p_collation collation)
{
	char text[P2P_NUMBER_TEXT_BYTES];
	struct p2p_value folded = *value;
	int rc = value_fold(&folded, affinity, text);

	if (!rc)
		put_folded(out, &folded, collation);
	return rc;
}

static int put_value_part(struct p2p_buf *out, const struct p2p_column *column,
			  const struct p2p_value *value)
{
	return p2p_value_put_canonical(out, value, column->affinity, column->collation);
}

int p2p_identity_of_parts(struct p2p_buf *out, const struct p2p_table *table,
			  const struct p2p_key_part *parts)
{
	uint32_t i;
	int rc = 0;

	p2p_require(table->key_count <= P2P_KEY_COLUMNS_MAX);
	for (i = 0; i < table->key_count; i++)
		if (!parts[i].reference && is_null(&parts[i].value))
			return P2P_IDENTITY_NULL_KEY;
	for (i = 0; i < table->key_count && !rc; i++) {
		if (parts[i].reference) {
			p2p_buf_put_u8(out, P2P_CELL_REFERENCE);
			p2p_identity_put(out, &parts[i].target);
		} else {
			rc = put_value_part(out, &table->columns[table->key[i]], &parts[i].value);
		}
	}
	return rc ? rc : p2p_buf_error(out);
}

int p2p_identity_of_key(struct p2p_buf *out, const struct p2p_table *table,
			const struct p2p_value *values)
{
	uint32_t i;
	int rc = 0;

	p2p_require(table->key_count <= P2P_KEY_COLUMNS_MAX);
	for (i = 0; i < table->key_count; i++)
		if (is_null(&values[i]))
			return P2P_IDENTITY_NULL_KEY;
	for (i = 0; i < table->key_count && !rc; i++)
		rc = put_value_part(out, &table->columns[table->key[i]], &values[i]);
	return rc ? rc : p2p_buf_error(out);
}

int p2p_identity_key_parts(const struct p2p_table *table, const void *key, size_t len,
			   struct p2p_key_part *parts)
{
	struct p2p_reader reader;
	uint32_t i;

	p2p_reader_init(&reader, key, len);
	for (i = 0; i < table->key_count; i++) {
		uint8_t tag = p2p_read_u8(&reader);

		parts[i].reference = tag == P2P_CELL_REFERENCE;
		if (parts[i].reference)
			p2p_identity_read(&reader, &parts[i].target);
		else
			p2p_value_read_tagged(&reader, tag, &parts[i].value);
		if (reader.failed || (!parts[i].reference && is_null(&parts[i].value)))
			return P2P_EPROTO;
	}
	return p2p_reader_left(&reader) ? P2P_EPROTO : 0;
}

int p2p_identity_key_values(const struct p2p_table *table, const void *key, size_t len,
			    struct p2p_value *values)
{
	struct p2p_reader reader;
	uint32_t i;

	p2p_reader_init(&reader, key, len);
	for (i = 0; i < table->key_count; i++) {
		p2p_value_read(&reader, &values[i]);
		if (is_null(&values[i]))
			return P2P_EPROTO;
	}
	return p2p_reader_left(&reader) ? P2P_EPROTO : p2p_reader_error(&reader);
}
