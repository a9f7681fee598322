/* The address book: bounded, fair, and whom to dial when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "discovery/addrbook.h"
#include "proto/limits.h"

static struct p2p_addrbook book;
static struct p2p_time now;

static int setup(void **state)
{
	(void)state;
	now.ms = 1000000;
	return p2p_addrbook_init(&book, now);
}

static int teardown(void **state)
{
	(void)state;
	p2p_addrbook_deinit(&book);
	return 0;
}

static int put(const char *host, uint16_t port, enum p2p_source source, const struct p2p_key *key)
{
	struct p2p_addrbook_claim claim = {.source = source,
					   .key = key,
					   .heard = source == P2P_SOURCE_BEACON};

	assert_int_equal(p2p_address_parse(&claim.address, host, port), 0);
	return p2p_addrbook_put(&book, now, &claim);
}

static uint32_t dial(void)
{
	const struct p2p_addrbook_entry *entry = p2p_addrbook_next(&book, now);

	return entry ? entry->id : 0;
}

static void ended(uint32_t id, int status, const struct p2p_key *key)
{
	struct p2p_addrbook_outcome outcome = {.status = status,
					       .key = key,
					       .duplicate = status == P2P_EDUPLICATE};

	p2p_addrbook_dialed(&book, now, id, &outcome);
}

static void a_seed_is_tried_for_ever_with_backoff(void **state)
{
	uint64_t waited, longest = 0;
	uint32_t id;
	int i;

	(void)state;
	assert_int_equal(put("10.0.0.1", 5, P2P_SOURCE_SEED, NULL), 0);
	for (i = 0; i < 50; i++) {
		id = dial();
		assert_int_not_equal(id, 0);
		assert_int_equal(dial(), 0); /* once at a time */
		ended(id, P2P_ENET, NULL);
		waited = p2p_addrbook_deadline(&book, now).ms - now.ms;
		longest = waited > longest ? waited : longest;
		assert_true(waited <= P2P_BACKOFF_MAX_MS);
		now.ms += waited;
	}
	assert_true(longest >= P2P_BACKOFF_MAX_MS / 2);
}

static void while_a_session_stands_its_addresses_rest(void **state)
{
	struct p2p_key key = {{1}};
	uint32_t id;

	(void)state;
	assert_int_equal(put("10.0.0.1", 5, P2P_SOURCE_BEACON, &key), 0);
	assert_int_equal(put("10.0.0.2", 5, P2P_SOURCE_BEACON, &key), 0);
	id = dial();
	assert_int_not_equal(id, 0);
	assert_int_equal(dial(), 0); /* one address of a node at a time */
	ended(id, 0, &key);
	p2p_addrbook_session(&book, now, &key, true, 0);
	now.ms += 60000;
	assert_int_equal(dial(), 0);
	assert_int_equal(p2p_addrbook_deadline(&book, now).ms, UINT64_MAX);
	p2p_addrbook_session(&book, now, &key, false, 0);
	now.ms += 1000;
	assert_int_not_equal(dial(), 0);
}

static void one_host_cannot_fill_the_book(void **state)
{
	uint16_t port;

	(void)state;
	assert_int_equal(put("10.0.0.9", 1, P2P_SOURCE_SEED, NULL), 0);
	for (port = 1; port <= P2P_ADDRESSES_HOST_MAX; port++)
		assert_int_equal(put("10.0.0.1", port, P2P_SOURCE_BEACON, NULL), 0);
	assert_int_equal(put("10.0.0.1", port, P2P_SOURCE_BEACON, NULL), P2P_ETOOBIG);
	assert_int_equal(put("10.0.0.2", 1, P2P_SOURCE_BEACON, NULL), 0);
}

static void a_full_book_makes_room_but_keeps_what_is_pinned(void **state)
{
	char host[32];
	uint32_t i;
	size_t pinned = 0, count = 0;

	(void)state;
	assert_int_equal(put("10.9.9.9", 1, P2P_SOURCE_SEED, NULL), 0);
	for (i = 0; i < 3 * P2P_ADDRESSES_MAX; i++) {
		(void)snprintf(host, sizeof(host), "10.%u.%u.1", i / 250, i % 250);
		now.ms++;
		assert_int_equal(put(host, 7, P2P_SOURCE_BEACON, NULL), 0);
	}
	for (i = 0; i < P2P_ADDRESSES_MAX; i++) {
		count += book.entries[i].id != 0;
		pinned += book.entries[i].id && book.entries[i].source == P2P_SOURCE_SEED;
	}
	assert_int_equal(count, P2P_ADDRESSES_MAX);
	assert_int_equal(pinned, 1);
}

static void strangers_get_half_of_the_dials_and_none_is_dialled_twice(void **state)
{
	uint32_t i, dialled = 0;
	char host[32];

	(void)state;
	for (i = 0; i < 40; i++) {
		(void)snprintf(host, sizeof(host), "10.0.%u.1", i);
		assert_int_equal(put(host, 7, P2P_SOURCE_CLAIM, NULL), 0);
	}
	while (dial())
		dialled++;
	assert_int_equal(dialled, P2P_DIALS_MAX / 2);
	assert_int_equal(put("10.1.1.1", 7, P2P_SOURCE_SEED, NULL), 0);
	assert_int_not_equal(dial(), 0); /* a seed is no stranger */
}

static void addresses_that_cannot_be_dialled_are_refused(void **state)
{
	(void)state;
	assert_int_equal(put("0.0.0.0", 5, P2P_SOURCE_SEED, NULL), P2P_EINVAL);
	assert_int_equal(put("239.1.1.1", 5, P2P_SOURCE_SEED, NULL), P2P_EINVAL);
	assert_int_equal(put("10.0.0.1", 0, P2P_SOURCE_SEED, NULL), P2P_EINVAL);
	assert_int_equal(put("::", 5, P2P_SOURCE_SEED, NULL), P2P_EINVAL);
	assert_int_equal(put("ff02::1", 5, P2P_SOURCE_SEED, NULL), P2P_EINVAL);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(a_seed_is_tried_for_ever_with_backoff),
		CASE(while_a_session_stands_its_addresses_rest),
		CASE(one_host_cannot_fill_the_book),
		CASE(a_full_book_makes_room_but_keeps_what_is_pinned),
		CASE(strangers_get_half_of_the_dials_and_none_is_dialled_twice),
		CASE(addresses_that_cannot_be_dialled_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
