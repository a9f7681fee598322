/* Beacons: frozen layout, opened only with the right secret and mesh, damaged ones never; what was
 * heard is taken once, and of one sender only the newer one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sodium.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "discovery/beacon.h"
#include "discovery/replay.h"
#include "discovery/schedule.h"
#include "discovery/seeds.h"

static const struct p2p_hash mesh = {{1}}, other_mesh = {{2}};
static struct p2p_beacon_ring ring;

static struct p2p_beacon sample(enum p2p_beacon_kind kind)
{
	struct p2p_beacon beacon;

	memset(&beacon, 0, sizeof(beacon));
	beacon.kind = kind;
	memset(beacon.key.bytes, 3, P2P_KEY_BYTES);
	memset(beacon.instance.bytes, 4, P2P_ID_BYTES);
	beacon.port = 7473;
	beacon.time_ms = 1700000000000;
	beacon.addresses_count = 2;
	assert_int_equal(p2p_address_parse(&beacon.addresses[0], "10.0.0.1", 5), 0);
	assert_int_equal(p2p_address_parse(&beacon.addresses[1], "2001:db8::1", 6), 0);
	return beacon;
}

static void ring_of(enum p2p_secret_kind kind, uint8_t letter)
{
	struct p2p_beacon_secret secret = {.kind = kind, .id = 9};

	memset(secret.bytes, letter, sizeof(secret.bytes));
	assert_int_equal(p2p_beacon_ring_set(&ring, &secret, 1), 0);
}

static void seal(uint8_t out[P2P_BEACON_BYTES], const struct p2p_beacon *beacon)
{
	uint8_t nonce[P2P_BEACON_NONCE_BYTES];

	memset(nonce, 5, sizeof(nonce));
	p2p_beacon_seal(out, beacon, &ring.keys[0], &mesh, nonce);
}

static int open_it(const uint8_t *data, size_t len, const struct p2p_hash *of)
{
	const struct p2p_beacon_secret *key;
	struct p2p_beacon back;

	return p2p_beacon_ring_open(&ring, of, data, len, &back, &key);
}

static void what_is_sealed_comes_back_to_members_only(void **state)
{
	struct p2p_beacon beacon = sample(P2P_BEACON_HELLO), back;
	const struct p2p_beacon_secret *key;
	uint8_t bytes[P2P_BEACON_BYTES];

	(void)state;
	ring_of(P2P_SECRET_EPOCH, 7);
	seal(bytes, &beacon);
	assert_int_equal(p2p_beacon_ring_open(&ring, &mesh, bytes, sizeof(bytes), &back, &key), 0);
	assert_int_equal(key->id, 9);
	assert_int_equal(back.port, 7473);
	assert_int_equal(back.addresses_count, 2);
	assert_true(p2p_address_equal(&back.addresses[1], &beacon.addresses[1]));
	assert_int_equal(open_it(bytes, sizeof(bytes), &other_mesh), P2P_EAUTH);
	assert_int_equal(open_it(bytes, sizeof(bytes) - 1, &mesh), P2P_EAUTH);
	ring_of(P2P_SECRET_EPOCH, 8);
	assert_int_equal(open_it(bytes, sizeof(bytes), &mesh), P2P_EAUTH);
}

static void every_damaged_bit_is_refused(void **state)
{
	struct p2p_beacon beacon = sample(P2P_BEACON_HELLO);
	uint8_t bytes[P2P_BEACON_BYTES];
	size_t i;

	(void)state;
	ring_of(P2P_SECRET_EPOCH, 7);
	seal(bytes, &beacon);
	for (i = 0; i < sizeof(bytes) * 8; i++) {
		bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
		assert_int_equal(open_it(bytes, sizeof(bytes), &mesh), P2P_EAUTH);
		bytes[i / 8] ^= (uint8_t)(1u << (i % 8));
	}
	assert_int_equal(open_it(bytes, sizeof(bytes), &mesh), 0);
}

static void the_bytes_are_frozen(void **state)
{
	struct p2p_beacon beacon = sample(P2P_BEACON_HELLO);
	uint8_t bytes[P2P_BEACON_BYTES];
	struct p2p_hash hash;
	char hex[17];

	(void)state;
	ring_of(P2P_SECRET_EPOCH, 7);
	seal(bytes, &beacon);
	p2p_hash_bytes(&hash, bytes, sizeof(bytes));
	p2p_hex(hex, hash.bytes, 8);
	assert_string_equal(hex, "9d7efad4eb43912e");
}

static void a_ticket_opens_no_hello_and_a_mesh_secret_no_seeking(void **state)
{
	struct p2p_beacon hello = sample(P2P_BEACON_HELLO), seek = sample(P2P_BEACON_SEEK);
	uint8_t bytes[P2P_BEACON_BYTES];

	(void)state;
	ring_of(P2P_SECRET_ISSUED, 7);
	seal(bytes, &hello);
	assert_int_equal(open_it(bytes, sizeof(bytes), &mesh), P2P_EPROTO);
	seal(bytes, &seek);
	assert_int_equal(open_it(bytes, sizeof(bytes), &mesh), 0);
	ring_of(P2P_SECRET_EPOCH, 7);
	assert_int_equal(open_it(bytes, sizeof(bytes), &mesh), P2P_EPROTO);
}

static void a_recorded_datagram_is_taken_once(void **state)
{
	static struct p2p_replay replay;
	uint8_t nonce[24];
	uint64_t i;

	(void)state;
	p2p_replay_init(&replay);
	memset(nonce, 0, sizeof(nonce));
	for (i = 1; i <= 3 * P2P_BEACON_REPLAY_MAX; i++) {
		memcpy(nonce, &i, sizeof(i));
		assert_false(p2p_replay_seen(&replay, nonce));
		assert_true(p2p_replay_seen(&replay, nonce));
	}
	i = 1; /* forgotten long ago: its order still tells */
	memcpy(nonce, &i, sizeof(i));
	assert_false(p2p_replay_seen(&replay, nonce));
}

static void of_one_sender_only_the_newer_one_counts(void **state)
{
	static struct p2p_senders senders;
	struct p2p_key key = {{1}};
	struct p2p_id first = {{1}}, second = {{2}};
	struct p2p_time now = {1000};

	(void)state;
	assert_int_equal(p2p_senders_note(&senders, now, &key, &first, 10), P2P_SENDER_NEW);
	assert_int_equal(p2p_senders_note(&senders, now, &key, &first, 11), P2P_SENDER_AGAIN);
	assert_int_equal(p2p_senders_note(&senders, now, &key, &first, 11), P2P_SENDER_OLD);
	assert_int_equal(p2p_senders_note(&senders, now, &key, &first, 5), P2P_SENDER_OLD);
	assert_int_equal(p2p_senders_note(&senders, now, &key, &second, 5), P2P_SENDER_RESTARTED);
	now.ms += P2P_SENDER_FORGET_MS + 1;
	assert_int_equal(p2p_senders_note(&senders, now, &key, &second, 1), P2P_SENDER_NEW);
}

static void beacons_are_rarer_in_a_larger_mesh_and_never_in_a_rush(void **state)
{
	struct p2p_schedule schedule;
	struct p2p_time now = {50000};
	unsigned int sent = 0;

	(void)state;
	assert_int_equal(p2p_schedule_interval_ms(1), P2P_BEACON_MIN_MS);
	assert_int_equal(p2p_schedule_interval_ms(200), 20000);
	assert_int_equal(p2p_schedule_interval_ms(100000), P2P_BEACON_MAX_MS);
	p2p_schedule_init(&schedule, now);
	for (; now.ms < 60000; now.ms += 10) {
		p2p_schedule_now(&schedule, now); /* a reason at every moment */
		if (!p2p_schedule_due(&schedule, now))
			continue;
		p2p_schedule_sent(&schedule, now, 0);
		sent++;
	}
	assert_true(sent <= 10000 / P2P_BEACON_SOONEST_MS + 1);
}

static void seeds_are_host_and_port_and_nothing_else(void **state)
{
	static const char *const bad[] = {"",	     "host",	"host:",  "host:0", "host:65536",
					  "host:1x", ":5",	"[::1]",  "[]:5",   "::1:5",
					  "[::1:5",  "host: 5", "host:-5"};
	char host[P2P_SEED_TEXT_MAX];
	uint16_t port;
	size_t i;

	(void)state;
	assert_int_equal(p2p_seeds_parse("server.lan:7473", host, &port), 0);
	assert_string_equal(host, "server.lan");
	assert_int_equal(port, 7473);
	assert_int_equal(p2p_seeds_parse("[fe80::1%eth0]:1", host, &port), 0);
	assert_string_equal(host, "fe80::1%eth0");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(p2p_seeds_parse(bad[i], host, &port), P2P_EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_sealed_comes_back_to_members_only),
		cmocka_unit_test(every_damaged_bit_is_refused),
		cmocka_unit_test(the_bytes_are_frozen),
		cmocka_unit_test(a_ticket_opens_no_hello_and_a_mesh_secret_no_seeking),
		cmocka_unit_test(a_recorded_datagram_is_taken_once),
		cmocka_unit_test(of_one_sender_only_the_newer_one_counts),
		cmocka_unit_test(beacons_are_rarer_in_a_larger_mesh_and_never_in_a_rush),
		cmocka_unit_test(seeds_are_host_and_port_and_nothing_else),
	};

	return sodium_init() < 0 ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
