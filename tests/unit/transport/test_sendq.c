/* Send queues: order, bounds, and who overtakes whom. */
#include "tests/unit/transport/fixture.h"

#include "transport/sendq.h"

static uint8_t big[P2P_MESSAGE_MAX + 1];

static void urgent_messages_overtake_between_fragments(void **state)
{
	struct p2p_sendq queue;
	struct p2p_fragment fragment;

	(void)state;
	p2p_sendq_init(&queue);
	assert_false(p2p_sendq_peek(&queue, &fragment));
	assert_int_equal(p2p_sendq_push(&queue, P2P_CLASS_BULK, big, 2 * P2P_FRAGMENT_MAX + 1), 0);
	assert_true(p2p_sendq_peek(&queue, &fragment));
	assert_int_equal(fragment.len, P2P_FRAGMENT_MAX);
	assert_false(fragment.last);
	p2p_sendq_pop(&queue);
	assert_int_equal(p2p_sendq_push(&queue, P2P_CLASS_SMALL, "s1", 2), 0);
	assert_int_equal(p2p_sendq_push(&queue, P2P_CLASS_SMALL, "s2", 2), 0);
	assert_int_equal(p2p_sendq_push(&queue, P2P_CLASS_CONTROL, "c", 1), 0);
	assert_true(p2p_sendq_peek(&queue, &fragment));
	assert_int_equal(fragment.cls, P2P_CLASS_CONTROL);
	p2p_sendq_pop(&queue);
	assert_true(p2p_sendq_peek(&queue, &fragment));
	assert_memory_equal(fragment.data, "s1", 2);
	assert_true(fragment.last);
	p2p_sendq_pop(&queue);
	assert_true(p2p_sendq_peek(&queue, &fragment));
	assert_memory_equal(fragment.data, "s2", 2);
	p2p_sendq_pop(&queue);
	assert_true(p2p_sendq_peek(&queue, &fragment));
	assert_int_equal(fragment.cls, P2P_CLASS_BULK);
	assert_int_equal(fragment.len, P2P_FRAGMENT_MAX);
	assert_false(fragment.last);
	p2p_sendq_pop(&queue);
	assert_true(p2p_sendq_peek(&queue, &fragment));
	assert_int_equal(fragment.len, 1);
	assert_true(fragment.last);
	p2p_sendq_pop(&queue);
	assert_true(p2p_sendq_empty(&queue));
	p2p_sendq_deinit(&queue);
}

static void bounds_hold_for_each_class(void **state)
{
	struct p2p_sendq queue;
	size_t count = 0;

	(void)state;
	p2p_sendq_init(&queue);
	assert_int_equal(p2p_sendq_push(&queue, P2P_CLASS_BULK, big, 0), P2P_EINVAL);
	assert_int_equal(p2p_sendq_push(&queue, P2P_CLASS_BULK, big, sizeof(big)), P2P_ETOOBIG);
	assert_int_equal(p2p_sendq_push(&queue, P2P_CLASS_BULK, big, P2P_MESSAGE_MAX), 0);
	assert_false(p2p_sendq_relieved(&queue));
	assert_int_equal(p2p_sendq_push(&queue, P2P_CLASS_BULK, big, 1), P2P_EBUSY);
	assert_int_equal(p2p_sendq_push(&queue, P2P_CLASS_SMALL, big, 1), 0);
	assert_false(p2p_sendq_relieved(&queue));
	while (!p2p_sendq_empty(&queue)) /* at most 65 fragments */
		p2p_sendq_pop(&queue);
	assert_true(p2p_sendq_relieved(&queue));
	assert_false(p2p_sendq_relieved(&queue)); /* once */
	while (p2p_sendq_push(&queue, P2P_CLASS_SMALL, "x", 1) == 0)
		count++;
	/* what a message costs to keep counts too: one byte is not one byte */
	assert_true(count < P2P_SENDQ_SMALL_MAX / 16);
	assert_true(p2p_sendq_bytes(&queue) <= P2P_SENDQ_SMALL_MAX);
	p2p_sendq_deinit(&queue);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(urgent_messages_overtake_between_fragments),
		cmocka_unit_test(bounds_hold_for_each_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
