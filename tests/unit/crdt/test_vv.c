/* Version vectors: sorted, bounded, one text and one digest for one state. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>

#include "crdt/vv.h"
#include "proto/limits.h"

static struct p2p_vv_entry entry(uint8_t replica, uint64_t seq)
{
	struct p2p_vv_entry out;

	memset(&out, 0, sizeof(out));
	memset(out.replica.bytes, replica, P2P_ID_BYTES);
	memset(out.head.bytes, (int)(replica + seq), P2P_HASH_BYTES);
	out.seq = seq;
	return out;
}

static void fill(struct p2p_vv *vv, const uint8_t *order, size_t count)
{
	size_t i;

	p2p_vv_init(vv);
	for (i = 0; i < count; i++) {
		struct p2p_vv_entry at = entry(order[i], order[i] * 10u);

		assert_int_equal(p2p_vv_put(vv, &at), 0);
	}
}

static void any_order_of_puts_gives_one_vector(void **state)
{
	static const uint8_t a[] = {1, 2, 3, 4}, b[] = {4, 2, 1, 3};
	struct p2p_hash x, y;
	struct p2p_vv v, w;

	(void)state;
	fill(&v, a, 4);
	fill(&w, b, 4);
	p2p_vv_digest(&v, &x);
	p2p_vv_digest(&w, &y);
	assert_memory_equal(&x, &y, sizeof(x));
	assert_int_equal(v.count, 4);
	assert_int_equal(p2p_vv_seq(&w, &v.entries[2].replica), 30);
	p2p_vv_remove(&w, &v.entries[2].replica);
	assert_int_equal(p2p_vv_seq(&w, &v.entries[2].replica), 0);
	assert_true(p2p_vv_covers(&v, &w));
	assert_false(p2p_vv_covers(&w, &v));
	p2p_vv_deinit(&v);
	p2p_vv_deinit(&w);
}

static void another_head_is_another_digest(void **state)
{
	struct p2p_vv_entry at = entry(1, 5);
	struct p2p_hash x, y;
	struct p2p_vv vv;

	(void)state;
	p2p_vv_init(&vv);
	assert_int_equal(p2p_vv_put(&vv, &at), 0);
	p2p_vv_digest(&vv, &x);
	at.head.bytes[31] ^= 1;
	assert_int_equal(p2p_vv_put(&vv, &at), 0);
	p2p_vv_digest(&vv, &y);
	assert_memory_not_equal(&x, &y, sizeof(x));
	/* an entry with nothing is no part of the state */
	at = entry(9, 0);
	assert_int_equal(p2p_vv_put(&vv, &at), 0);
	p2p_vv_digest(&vv, &x);
	assert_memory_equal(&x, &y, sizeof(x));
	p2p_vv_deinit(&vv);
}

static void the_text_comes_back_and_anything_else_is_refused(void **state)
{
	static const char *const bad[] = {
		",",
		"abc:1",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa:",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa:0",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa:01",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa:-1",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa:1,",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa:1 ",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa:99999999999999999999",
		"aaaaaaaaaaaaaaaaaaaaaaaaaa:1,aaaaaaaaaaaaaaaaaaaaaaaaaa:2",
	};
	static const uint8_t order[] = {7, 3};
	struct p2p_vv vv, back;
	struct p2p_buf text;
	size_t i;

	(void)state;
	fill(&vv, order, 2);
	p2p_buf_init(&text, 4096);
	p2p_vv_text(&vv, &text);
	p2p_buf_put_u8(&text, 0);
	assert_int_equal(p2p_buf_error(&text), 0);
	assert_int_equal(p2p_vv_parse(&back, (const char *)text.data), 0);
	assert_true(p2p_vv_covers(&back, &vv));
	assert_true(p2p_vv_covers(&vv, &back));
	p2p_vv_deinit(&back);
	assert_int_equal(p2p_vv_parse(&back, ""), 0);
	assert_int_equal(back.count, 0);
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		assert_int_equal(p2p_vv_parse(&back, bad[i]), P2P_EINVAL);
	p2p_buf_deinit(&text);
	p2p_vv_deinit(&vv);
}

static void more_replicas_than_the_limit_are_refused(void **state)
{
	struct p2p_vv_entry at = entry(0, 1);
	struct p2p_vv vv;
	uint32_t i;

	(void)state;
	p2p_vv_init(&vv);
	for (i = 0; i < P2P_REPLICAS_MAX; i++) {
		memcpy(at.replica.bytes, &i, sizeof(i));
		assert_int_equal(p2p_vv_put(&vv, &at), 0);
	}
	memcpy(at.replica.bytes, &i, sizeof(i));
	assert_int_equal(p2p_vv_put(&vv, &at), P2P_ETOOBIG);
	i = 5; /* one that is there still moves */
	memcpy(at.replica.bytes, &i, sizeof(i));
	assert_int_equal(p2p_vv_put(&vv, &at), 0);
	p2p_vv_deinit(&vv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_order_of_puts_gives_one_vector),
		cmocka_unit_test(another_head_is_another_digest),
		cmocka_unit_test(the_text_comes_back_and_anything_else_is_refused),
		cmocka_unit_test(more_replicas_than_the_limit_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
