/* Ids and their texts: golden derivations, orders, round trips, refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "proto/check.h"
#include "proto/ident.h"

static void base32_round_trips_and_is_rfc4648(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {{"", ""},
		    {"f", "my"},
		    {"fo", "mzxq"},
		    {"foo", "mzxw6"},
		    {"foob", "mzxw6yq"},
		    {"fooba", "mzxw6ytb"},
		    {"foobar", "mzxw6ytboi"}}; /* RFC 4648, section 10 */
	char text[32];
	uint8_t back[16];
	size_t len, i;

	(void)state;
	for (i = 0; i < p2p_array_len(rows); i++) {
		p2p_base32(text, rows[i].in, strlen(rows[i].in));
		assert_string_equal(text, rows[i].out);
		assert_int_equal(p2p_unbase32(back, sizeof(back), &len, text), 0);
		assert_int_equal(len, strlen(rows[i].in));
		assert_memory_equal(back, rows[i].in, len);
	}
	assert_int_equal(p2p_unbase32(back, sizeof(back), &len, "MZXW-6YTB oi\n"), 0);
	assert_int_equal(len, 6);
}

static void base32_refuses_what_no_encoder_writes(void **state)
{
	static const char *const bad[] = {"m", "mz1", "mzz", "m!", "mzxw6ytboia"};
	uint8_t back[6];
	size_t len, i;

	(void)state;
	for (i = 0; i < p2p_array_len(bad); i++)
		assert_int_equal(p2p_unbase32(back, sizeof(back), &len, bad[i]), P2P_EINVAL);
	assert_int_equal(p2p_unbase32(back, 5, &len, "mzxw6ytboi"), P2P_EINVAL);
}

static void hex_round_trips(void **state)
{
	uint8_t back[3];
	char text[7];

	(void)state;
	p2p_hex(text, "\x00\xab\xff", 3);
	assert_string_equal(text, "00abff");
	assert_int_equal(p2p_unhex(back, 3, "00ABff"), 0);
	assert_memory_equal(back, "\x00\xab\xff", 3);
	assert_int_equal(p2p_unhex(back, 3, "00abf"), P2P_EINVAL);
	assert_int_equal(p2p_unhex(back, 3, "00abfg"), P2P_EINVAL);
}

static void names_fold_as_sqlite_folds_them(void **state)
{
	struct p2p_id a, b, column_a, column_b;

	(void)state;
	p2p_table_id(&a, "Track");
	p2p_table_id(&b, "tRACK");
	assert_int_equal(p2p_id_cmp(&a, &b), 0);
	p2p_table_id(&b, "Tracks");
	assert_int_not_equal(p2p_id_cmp(&a, &b), 0);
	p2p_column_id(&column_a, &a, "Name");
	p2p_column_id(&column_b, &b, "name");
	assert_int_not_equal(p2p_id_cmp(&column_a, &column_b), 0);
}

/* Frozen by the first signed byte: these must never change (decisions 10, 11). */
static void derived_ids_are_golden(void **state)
{
	struct p2p_id table, id;
	char text[33];

	(void)state;
	p2p_table_id(&table, "Track");
	p2p_hex(text, table.bytes, sizeof(table.bytes));
	assert_string_equal(text, "78526a21190a59bf2e579a88be7cd56b");
	p2p_column_id(&id, &table, "Name");
	p2p_hex(text, id.bytes, sizeof(id.bytes));
	assert_string_equal(text, "1eeac144579363a8f99e98d5f1896ce5");
	p2p_number_row_id(&id, &table, -7);
	p2p_hex(text, id.bytes, sizeof(id.bytes));
	assert_string_equal(text, "a25e31d555ee1cf54f6770044f2819ed");
	p2p_generated_row_id(&id, &table, &table, 5, 9, 1700000000000);
	p2p_hex(text, id.bytes, sizeof(id.bytes));
	assert_string_equal(text, "e14e00ce52f04eb8b3d3e6c2c722160d");
}

/* As above: a certificate names it. */
static void a_replica_id_is_bound_to_its_key(void **state)
{
	struct p2p_key key, other;
	struct p2p_id id;
	char text[33];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(key.bytes); i++)
		key.bytes[i] = (uint8_t)i;
	memset(id.bytes, 0xff, sizeof(id.bytes));
	memcpy(id.bytes, "\x01\x02\x03\x04", P2P_REPLICA_RANDOM_BYTES);
	assert_false(p2p_replica_id_fits(&id, &key));
	p2p_replica_id_bind(&id, &key);
	p2p_hex(text, id.bytes, sizeof(id.bytes));
	/* python3, with p = lambda b: struct.pack(">Q", len(b)) + b and r = bytes([1, 2, 3, 4]):
	 * r + hashlib.blake2b(p(b"p2pnode/replica/1") + p(bytes(range(32))) + p(r),
	 * digest_size=32).digest()[:12] */
	assert_string_equal(text, "01020304d7b9e25cab68b177ef9c7abf");
	assert_true(p2p_replica_id_fits(&id, &key));
	for (i = 0; i < 8 * sizeof(key.bytes); i++) {
		other = key;
		other.bytes[i / 8] ^= (uint8_t)(1u << i % 8);
		assert_false(p2p_replica_id_fits(&id, &other));
	}
}

static void derived_keys_are_golden(void **state)
{
	uint8_t secret[P2P_KEY_BYTES], key[P2P_KEY_BYTES];
	char text[2 * P2P_KEY_BYTES + 1];
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(secret); i++)
		secret[i] = (uint8_t)i;
	p2p_kdf(key, secret, "psk");
	p2p_hex(text, key, sizeof(key));
	/* python3: hashlib.blake2b(b"p2pnode/kdf/1psk", key=bytes(range(32)), digest_size=32) */
	assert_string_equal(text,
			    "41f8199f4c010b21d91b9f31da9df5898748371ab1c2193b05912b237d5399bd");
}

static void clocks_order_by_stamp_then_replica(void **state)
{
	struct p2p_clock a = {{5}, {{1}}}, b = {{5}, {{2}}}, c = {{6}, {{0}}};

	(void)state;
	assert_true(p2p_clock_cmp(&a, &b) < 0);
	assert_true(p2p_clock_cmp(&b, &a) > 0);
	assert_true(p2p_clock_cmp(&b, &c) < 0);
	assert_int_equal(p2p_clock_cmp(&a, &a), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(base32_round_trips_and_is_rfc4648),
		cmocka_unit_test(base32_refuses_what_no_encoder_writes),
		cmocka_unit_test(hex_round_trips),
		cmocka_unit_test(names_fold_as_sqlite_folds_them),
		cmocka_unit_test(derived_ids_are_golden),
		cmocka_unit_test(a_replica_id_is_bound_to_its_key),
		cmocka_unit_test(derived_keys_are_golden),
		cmocka_unit_test(clocks_order_by_stamp_then_replica),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
