/* The published Noise vectors of cacophony, snow and noise-c, byte for byte: all patterns with
 * 25519, ChaChaPoly and BLAKE2b run through the code that the product uses for XXpsk3.
 * Argument: the file that vectors.py made. Without it the test is skipped. */
#include "tests/unit/transport/fixture.h"

#include <stdlib.h>

#include "proto/ident.h"
#include "transport/noise.h"

#define MESSAGES_MAX 16
#define BYTES_MAX    1024

struct bytes {
	bool present;
	size_t len;
	uint8_t data[BYTES_MAX];
};

struct vector {
	char pattern[32];
	struct bytes prologue[2], s[2], e[2], rs[2], psk, hash;
	struct bytes payloads[MESSAGES_MAX], ciphertexts[MESSAGES_MAX];
	size_t message_count;
};

// clang-format off
#define E   P2P_NOISE_E
#define S   P2P_NOISE_S
#define EE  P2P_NOISE_EE
#define ES  P2P_NOISE_ES
#define SE  P2P_NOISE_SE
#define SS  P2P_NOISE_SS
static const struct p2p_noise_pattern patterns[] = {
	{"NN", 0, 0, false, 2, {{E}, {E, EE}}},
	{"NK", 0, S, false, 2, {{E, ES}, {E, EE}}},
	{"KK", S, S, false, 2, {{E, ES, SS}, {E, EE, SE}}},
	{"XX", 0, 0, false, 3, {{E}, {E, EE, S, ES}, {S, SE}}},
	{"IK", 0, S, false, 2, {{E, ES, S, SS}, {E, EE, SE}}},
	{"XK", 0, S, false, 3, {{E, ES}, {E, EE}, {S, SE}}},
	{"IX", 0, 0, false, 2, {{E, S}, {E, EE, SE, S, ES}}},
	/* as noise-c has it: who answers IK with it takes the initiator's part */
	{"XXfallback", 0, E, false, 2, {{E, EE, S, SE}, {S, ES}}},
};
// clang-format on

static void unhex(struct bytes *out, const char *text)
{
	out->present = true;
	out->len = strcmp(text, "-") == 0 ? 0 : strlen(text) / 2;
	assert_true(out->len <= sizeof(out->data));
	if (out->len)
		assert_int_equal(p2p_unhex(out->data, out->len, text), 0);
}

static void put_psk(struct p2p_noise_pattern *pattern, unsigned int at)
{
	uint8_t *tokens = pattern->messages[at ? at - 1 : 0];
	size_t count = 0;

	while (tokens[count] != P2P_NOISE_END)
		count++;
	assert_true(count + 1 < P2P_NOISE_TOKENS_MAX);
	if (at == 0)
		memmove(tokens + 1, tokens, count);
	tokens[at == 0 ? 0 : count] = P2P_NOISE_PSK;
	pattern->psk = true;
}

/* The pattern of a name like "IKpsk2". */
static void find_pattern(struct p2p_noise_pattern *out, const char *name)
{
	const char *psk = strstr(name, "psk");
	size_t i, len = psk ? (size_t)(psk - name) : strlen(name);

	for (i = 0; i < p2p_array_len(patterns); i++)
		if (strlen(patterns[i].name) == len && memcmp(patterns[i].name, name, len) == 0)
			break;
	if (i == p2p_array_len(patterns))
		fail_msg("a vector of a pattern that is not known here: %s", name);
	*out = patterns[i];
	out->name = name;
	if (psk)
		put_psk(out, (unsigned int)(psk[3] - '0'));
	if (strcmp(name, p2p_noise_xxpsk3.name) == 0) { /* the product's own table */
		assert_memory_equal(out->messages, p2p_noise_xxpsk3.messages,
				    sizeof(out->messages));
		*out = p2p_noise_xxpsk3;
	}
}

static const uint8_t *key_of(const struct bytes *bytes)
{
	return bytes->present ? bytes->data : NULL;
}

static void start(struct p2p_noise *noise, const struct p2p_noise_pattern *pattern,
		  const struct vector *vector, int side, bool initiator)
{
	struct p2p_noise_config config = {
		.pattern = pattern,
		.initiator = initiator,
		.prologue = vector->prologue[side].data,
		.prologue_len = vector->prologue[side].len,
		.s = key_of(&vector->s[side]),
		.e = key_of(&vector->e[side]),
		.rs = key_of(&vector->rs[side]),
		.psk = key_of(&vector->psk),
	};

	p2p_noise_init(noise, &config);
}

static void check_message(struct p2p_noise *writer, struct p2p_noise *reader,
			  const struct bytes *payload, const struct bytes *ciphertext)
{
	struct p2p_buf message, opened;

	p2p_buf_init(&message, BYTES_MAX);
	p2p_buf_init(&opened, BYTES_MAX);
	assert_int_equal(p2p_noise_write(writer, payload->data, payload->len, &message), 0);
	assert_int_equal(message.len, ciphertext->len);
	assert_memory_equal(message.data, ciphertext->data, ciphertext->len);
	assert_int_equal(p2p_noise_read(reader, message.data, message.len, &opened), 0);
	assert_int_equal(opened.len, payload->len);
	if (payload->len)
		assert_memory_equal(opened.data, payload->data, payload->len);
	p2p_buf_deinit(&message);
	p2p_buf_deinit(&opened);
}

static void check_transport(struct p2p_noise_cipher *send, struct p2p_noise_cipher *receive,
			    const struct bytes *payload, const struct bytes *ciphertext)
{
	uint8_t sealed[BYTES_MAX], opened[BYTES_MAX];

	assert_int_equal(ciphertext->len, payload->len + P2P_NOISE_TAG_BYTES);
	assert_int_equal(p2p_noise_encrypt(send, NULL, 0, payload->data, payload->len, sealed), 0);
	assert_memory_equal(sealed, ciphertext->data, ciphertext->len);
	assert_int_equal(p2p_noise_decrypt(receive, NULL, 0, sealed, ciphertext->len, opened), 0);
	assert_memory_equal(opened, payload->data, payload->len);
}

/* The first message is of IK, and the responder cannot read it. */
static void fall_back(struct p2p_noise sides[2], const struct p2p_noise_pattern *pattern,
		      const struct vector *vector)
{
	struct p2p_noise_pattern ik;
	struct p2p_buf message, opened;
	uint8_t e_public[P2P_NOISE_KEY_BYTES];
	struct p2p_noise_config config = {
		.pattern = pattern,
		.initiator = true,
		.prologue = vector->prologue[1].data,
		.prologue_len = vector->prologue[1].len,
		.s = vector->s[1].data,
		.e = vector->e[1].data,
		.re = e_public,
	};

	find_pattern(&ik, "IK");
	start(&sides[0], &ik, vector, 0, true);
	start(&sides[1], &ik, vector, 1, false);
	p2p_buf_init(&message, BYTES_MAX);
	p2p_buf_init(&opened, BYTES_MAX);
	assert_int_equal(p2p_noise_write(&sides[0], vector->payloads[0].data,
					 vector->payloads[0].len, &message),
			 0);
	assert_int_equal(message.len, vector->ciphertexts[0].len);
	assert_memory_equal(message.data, vector->ciphertexts[0].data, message.len);
	assert_int_equal(p2p_noise_read(&sides[1], message.data, message.len, &opened), P2P_EAUTH);
	memcpy(e_public, message.data, sizeof(e_public));
	p2p_noise_init(&sides[1], &config);
	config.initiator = false;
	config.s = vector->s[0].data;
	config.e = vector->e[0].data;
	config.re = NULL;
	p2p_noise_init(&sides[0], &config);
	p2p_buf_deinit(&message);
	p2p_buf_deinit(&opened);
}

static void run_vector(const struct vector *vector)
{
	bool fallback = strcmp(vector->pattern, "XXfallback") == 0;
	struct p2p_noise_cipher send[2], receive[2];
	struct p2p_noise_pattern pattern;
	struct p2p_noise sides[2];
	size_t i = 0;

	find_pattern(&pattern, vector->pattern);
	if (fallback) {
		fall_back(sides, &pattern, vector);
		i = 1;
	} else {
		start(&sides[0], &pattern, vector, 0, true);
		start(&sides[1], &pattern, vector, 1, false);
	}
	for (; !p2p_noise_finished(&sides[0]); i++)
		check_message(&sides[i % 2], &sides[1 - i % 2], &vector->payloads[i],
			      &vector->ciphertexts[i]);
	assert_true(p2p_noise_finished(&sides[1]));
	p2p_noise_split(&sides[0], &send[0], &receive[0]);
	p2p_noise_split(&sides[1], &send[1], &receive[1]);
	assert_memory_equal(sides[0].h, sides[1].h, sizeof(sides[0].h));
	if (vector->hash.present)
		assert_memory_equal(sides[0].h, vector->hash.data, sizeof(sides[0].h));
	assert_true(i < vector->message_count);
	for (; i < vector->message_count; i++)
		check_transport(&send[i % 2], &receive[1 - i % 2], &vector->payloads[i],
				&vector->ciphertexts[i]);
}

static void take_line(struct vector *vector, const char *key, const char *value, const char *more)
{
	size_t at = vector->message_count;
	int side = strncmp(key, "resp_", 5) == 0;

	if (strcmp(key, "message") == 0) {
		assert_true(at < MESSAGES_MAX);
		unhex(&vector->payloads[at], value);
		unhex(&vector->ciphertexts[at], more);
		vector->message_count++;
	} else if (strcmp(key, "psk") == 0) {
		assert_false(vector->psk.present); /* at most one is known here */
		unhex(&vector->psk, value);
	} else if (strcmp(key, "handshake_hash") == 0) {
		unhex(&vector->hash, value);
	} else if (strcmp(key + 5, "prologue") == 0) {
		unhex(&vector->prologue[side], value);
	} else if (strcmp(key + 5, "static") == 0) {
		unhex(&vector->s[side], value);
	} else if (strcmp(key + 5, "ephemeral") == 0) {
		unhex(&vector->e[side], value);
	} else if (strcmp(key + 5, "remote_static") == 0) {
		unhex(&vector->rs[side], value);
	} else {
		fail_msg("%s", key);
	}
}

static const char *vectors_path;

static void published_vectors_are_met(void **state)
{
	static char line[8192], key[64], value[4096], more[4096];
	static struct vector vector;
	unsigned int count = 0, xxpsk3 = 0;
	FILE *file = fopen(vectors_path, "r");

	(void)state;
	assert_non_null(file);
	while (fgets(line, sizeof(line), file)) {
		value[0] = more[0] = 0;
		assert_true(sscanf(line, "%63s %4095s %4095s", key, value, more) >= 1);
		if (strcmp(key, "vector") == 0) {
			memset(&vector, 0, sizeof(vector));
			(void)snprintf(vector.pattern, sizeof(vector.pattern), "%.31s", value);
		} else if (strcmp(key, "end") == 0) {
			run_vector(&vector);
			count++;
			xxpsk3 += strcmp(vector.pattern, "XXpsk3") == 0;
		} else {
			take_line(&vector, key, value, more);
		}
	}
	assert_int_equal(fclose(file), 0);
	print_message("%u vectors, %u of XXpsk3\n", count, xxpsk3);
	assert_true(count >= 30);
	assert_true(xxpsk3 >= 1);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(published_vectors_are_met)};

	if (argc < 2) {
		(void)printf("skipped: no vectors; set the option `shared`\n");
		return 77;
	}
	assert_true(sodium_init() >= 0);
	vectors_path = argv[1];
	return cmocka_run_group_tests(tests, NULL, NULL);
}
