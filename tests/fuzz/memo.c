/* The public-key operations of libsodium, remembered: they are pure functions, the targets give
 * them the same keys over and over, and they are nearly all of the time of a handshake or a record.
 * The linker (--wrap) puts these in front of libsodium's. An entry holds the whole input, so that
 * an answer is never another input's. */
#include <sodium.h>
#include <stdbool.h>
#include <string.h>

#define ENTRIES	    16384
#define INPUT_MAX   320
#define MESSAGE_MAX 192

struct entry {
	uint8_t input[INPUT_MAX];
	size_t len;
	uint8_t output[64];
	int rc;
};

static struct entry entries[ENTRIES];

int __real_crypto_scalarmult(unsigned char *q, const unsigned char *n, const unsigned char *p);
int __real_crypto_scalarmult_base(unsigned char *q, const unsigned char *n);
int __real_crypto_sign_detached(unsigned char *sig, unsigned long long *siglen,
				const unsigned char *m, unsigned long long mlen,
				const unsigned char *sk);
int __real_crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
				       unsigned long long mlen, const unsigned char *pk);
int __wrap_crypto_scalarmult(unsigned char *q, const unsigned char *n, const unsigned char *p);
int __wrap_crypto_scalarmult_base(unsigned char *q, const unsigned char *n);
int __wrap_crypto_sign_detached(unsigned char *sig, unsigned long long *siglen,
				const unsigned char *m, unsigned long long mlen,
				const unsigned char *sk);
int __wrap_crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
				       unsigned long long mlen, const unsigned char *pk);

struct input {
	uint8_t bytes[INPUT_MAX];
	size_t len;
};

static void add(struct input *input, const void *data, size_t len)
{
	memcpy(input->bytes + input->len, data, len);
	input->len += len;
}

/* Where the input's answer is kept; *known: it is there. */
static struct entry *find(const struct input *input, bool *known)
{
	uint64_t hash = 0xcbf29ce484222325ull, word;
	struct entry *entry;
	size_t i;

	for (i = 0; i < input->len; i += sizeof(word)) {
		memcpy(&word, input->bytes + i, sizeof(word));
		hash = (hash ^ word) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 29;
	}
	entry = &entries[(hash >> 20) % ENTRIES];
	*known = entry->len == input->len && memcmp(entry->input, input->bytes, input->len) == 0;
	if (!*known) {
		memcpy(entry->input, input->bytes, input->len);
		entry->len = input->len;
	}
	return entry;
}

int __wrap_crypto_scalarmult(unsigned char *q, const unsigned char *n, const unsigned char *p)
{
	struct input input = {{1}, 1};
	struct entry *entry;
	bool known;

	add(&input, n, 32);
	add(&input, p, 32);
	entry = find(&input, &known);
	if (!known)
		entry->rc = __real_crypto_scalarmult(entry->output, n, p);
	memcpy(q, entry->output, 32);
	return entry->rc;
}

int __wrap_crypto_scalarmult_base(unsigned char *q, const unsigned char *n)
{
	struct input input = {{2}, 1};
	struct entry *entry;
	bool known;

	add(&input, n, 32);
	entry = find(&input, &known);
	if (!known)
		entry->rc = __real_crypto_scalarmult_base(entry->output, n);
	memcpy(q, entry->output, 32);
	return entry->rc;
}

static struct entry *find_verify(const unsigned char *sig, const unsigned char *m,
				 unsigned long long mlen, const unsigned char *pk, bool *known)
{
	struct input input = {{4}, 1};

	add(&input, sig, 64);
	add(&input, pk, 32);
	add(&input, m, mlen);
	return find(&input, known);
}

int __wrap_crypto_sign_detached(unsigned char *sig, unsigned long long *siglen,
				const unsigned char *m, unsigned long long mlen,
				const unsigned char *sk)
{
	struct input input = {{3}, 1};
	struct entry *entry;
	bool known;
	int rc;

	if (mlen > MESSAGE_MAX || siglen)
		return __real_crypto_sign_detached(sig, siglen, m, mlen, sk);
	add(&input, sk, 64);
	add(&input, m, mlen);
	entry = find(&input, &known);
	if (!known)
		entry->rc = __real_crypto_sign_detached(entry->output, NULL, m, mlen, sk);
	memcpy(sig, entry->output, 64);
	rc = entry->rc;
	/* what was just signed is valid: the second half of the secret key is the public one */
	if (!known && rc == 0)
		find_verify(sig, m, mlen, sk + 32, &known)->rc = 0;
	return rc;
}

int __wrap_crypto_sign_verify_detached(const unsigned char *sig, const unsigned char *m,
				       unsigned long long mlen, const unsigned char *pk)
{
	struct entry *entry;
	bool known;

	if (mlen > MESSAGE_MAX)
		return __real_crypto_sign_verify_detached(sig, m, mlen, pk);
	entry = find_verify(sig, m, mlen, pk, &known);
	if (!known)
		entry->rc = __real_crypto_sign_verify_detached(sig, m, mlen, pk);
	return entry->rc;
}
