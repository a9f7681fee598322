/* Version vectors: text of `wait --for`, and operations against a model of eight entries. */
#include <string.h>

#include "crdt/vv.h"
#include "tests/fuzz/fuzz.h"

#define LEN_MAX 2048
#define MODEL	8

static void check_sorted(const struct p2p_vv *vv)
{
	size_t i;

	for (i = 1; i < vv->count; i++)
		p2p_require(p2p_id_cmp(&vv->entries[i - 1].replica, &vv->entries[i].replica) < 0);
}

static void try_text(const uint8_t *data, size_t len)
{
	char text[LEN_MAX + 1];
	struct p2p_vv vv, again;
	struct p2p_buf out;
	struct p2p_hash first, second;

	memcpy(text, data, len);
	text[len] = 0;
	if (p2p_vv_parse(&vv, text))
		return;
	check_sorted(&vv);
	p2p_buf_init(&out, 2 * LEN_MAX);
	p2p_vv_text(&vv, &out);
	p2p_buf_put_u8(&out, 0);
	fuzz_ok(p2p_buf_error(&out));
	fuzz_ok(p2p_vv_parse(&again, (const char *)out.data));
	p2p_require(vv.count == again.count);
	p2p_require(p2p_vv_covers(&vv, &again));
	p2p_require(p2p_vv_covers(&again, &vv));
	p2p_vv_digest(&vv, &first);
	p2p_vv_digest(&again, &second);
	p2p_require(p2p_hash_cmp(&first, &second) == 0);
	p2p_buf_deinit(&out);
	p2p_vv_deinit(&vv);
	p2p_vv_deinit(&again);
	fuzz_deep();
}

/* Ids whose order is not that of their numbers. */
static void id_of(struct p2p_id *out, uint32_t number)
{
	memset(out->bytes, 0, P2P_ID_BYTES);
	out->bytes[number % P2P_ID_BYTES] = (uint8_t)(1 + number * 37);
}

static void try_steps(struct fuzz_in *in)
{
	uint64_t model[MODEL] = {0};
	bool there[MODEL] = {false};
	struct p2p_vv_entry entry;
	struct p2p_vv vv, copy;
	size_t i, count = 0;

	p2p_vv_init(&vv);
	p2p_vv_init(&copy);
	while (fuzz_more(in)) {
		uint32_t at = fuzz_below(in, MODEL), op = fuzz_below(in, 4);

		memset(&entry, 0, sizeof(entry));
		id_of(&entry.replica, at);
		if (op == 0) {
			p2p_vv_remove(&vv, &entry.replica);
			there[at] = false;
		} else if (op == 1) {
			fuzz_ok(p2p_vv_copy(&copy, &vv));
			p2p_require(p2p_vv_covers(&copy, &vv));
		} else {
			entry.seq = model[at] = fuzz_number(in);
			there[at] = true;
			fuzz_ok(p2p_vv_put(&vv, &entry));
		}
		check_sorted(&vv);
	}
	for (i = 0; i < MODEL; i++) {
		id_of(&entry.replica, (uint32_t)i);
		p2p_require((p2p_vv_get(&vv, &entry.replica) != NULL) == there[i]);
		p2p_require(p2p_vv_seq(&vv, &entry.replica) == (there[i] ? model[i] : 0));
		count += there[i];
	}
	p2p_require(vv.count == count);
	p2p_vv_deinit(&vv);
	p2p_vv_deinit(&copy);
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);

	if (fuzz_u8(&in) & 1)
		try_steps(&in);
	else if (len)
		try_text(data + 1, len - 1);
}

static void seeds(void)
{
	static const char text[] =
		"\0aaaaaaaaaaaaaaaaaaaaaaaaaa:1,baaaaaaaaaaaaaaaaaaaaaaaaa:922337";
	static const uint8_t steps[] = {1, 3, 2, 5, 4, 3, 7, 1, 1, 3, 0, 7, 2, 0x85, 1};

	fuzz_seed("one", text, 29);
	fuzz_seed("two", text, sizeof(text) - 1);
	fuzz_seed("twice", "\0aaaaaaaaaaaaaaaaaaaaaaaaaa:1,AAAAAAAAAAAAAAAAAAAAAAAAAA:1", 58);
	fuzz_seed("greatest", "\0aaaaaaaaaaaaaaaaaaaaaaaaaa:9223372036854775799", 47);
	fuzz_seed("comma", "\0aaaaaaaaaaaaaaaaaaaaaaaaaa:1,", 30);
	fuzz_seed("steps", steps, sizeof(steps));
}

const struct fuzz_target fuzz_target = {.name = "vector",
					.len_max = 1 + LEN_MAX,
					.memory_max = 64 * LEN_MAX,
					.cpu_ms_max = 50,
					.one = one,
					.seeds = seeds};
