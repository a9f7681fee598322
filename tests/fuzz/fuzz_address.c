/* Addresses as people write them: of peers, of seeds, of --listen. */
#include <string.h>

#include "discovery/address.h"
#include "discovery/seeds.h"
#include "node/node.h"
#include "tests/fuzz/fuzz.h"

#define TEXT_MAX 400

/* An address and its text are the same thing. */
static void check_text(const struct p2p_address *address)
{
	char text[P2P_ADDRESS_TEXT_MAX], host[P2P_SEED_TEXT_MAX], again[P2P_ADDRESS_TEXT_MAX];
	uint8_t bytes[16];
	struct p2p_address other;
	uint16_t port = 0;

	p2p_address_text(address, text);
	p2p_require(memchr(text, 0, sizeof(text)) != NULL);
	if (p2p_address_port(address)) {
		fuzz_ok(p2p_seeds_parse(text, host, &port));
		fuzz_ok(p2p_address_parse(&other, host, port));
		p2p_require(p2p_address_equal(address, &other));
		p2p_address_text(&other, again);
		p2p_require(strcmp(text, again) == 0);
	}
	p2p_address_to_bytes(address, bytes);
	fuzz_ok(p2p_address_from_bytes(&other, p2p_address_family(address), bytes,
				       p2p_address_port(address)));
	if (p2p_address_family(address) == 6)
		other.in6.sin6_scope_id = address->in6.sin6_scope_id;
	p2p_require(p2p_address_equal(address, &other));
	if (p2p_address_is_dialable(address))
		p2p_require(p2p_address_port(address) != 0);
}

static void try_listen(const char *text)
{
	struct sockaddr_storage storage;
	struct p2p_error err = {0};
	struct p2p_address address;
	int rc;

	memset(&storage, 0x5a, sizeof(storage));
	rc = p2p_net_parse(text, &storage, &err);
	if (rc) {
		p2p_require(rc == P2P_EINVAL);
		p2p_require(err.code == rc);
		p2p_require(err.msg[0]);
		p2p_require(storage.ss_family == 0x5a5a);
		return;
	}
	fuzz_ok(p2p_address_from_sockaddr(&address, (const struct sockaddr *)(void *)&storage));
	check_text(&address);
	fuzz_deep();
}

static void try_seed(const char *text)
{
	char host[P2P_SEED_TEXT_MAX];
	struct p2p_address address;
	uint16_t port = 0;

	if (p2p_seeds_parse(text, host, &port))
		return;
	p2p_require(port != 0);
	p2p_require(strlen(host) > 0);
	p2p_require(strlen(host) < strlen(text));
	if (p2p_address_parse(&address, host, port) == 0)
		check_text(&address);
	fuzz_deep();
}

static void one(const uint8_t *data, size_t len)
{
	struct fuzz_in in = fuzz_in(data, len);
	uint8_t form = fuzz_u8(&in);
	struct p2p_address address;
	char text[TEXT_MAX + 1];
	const uint8_t *bytes;
	size_t taken;

	bytes = fuzz_take(&in, form == 1 ? 19 : TEXT_MAX, &taken);
	memset(text, 0, sizeof(text));
	memcpy(text, bytes, taken);
	if (form == 1) { /* as in a packet */
		if (p2p_address_from_bytes(&address, (uint8_t)text[0], (uint8_t *)text + 1,
					   (uint16_t)((uint8_t)text[17] << 8 |
						      (uint8_t)text[18])) == 0)
			check_text(&address);
		return;
	}
	try_listen(text);
	try_seed(text);
	if (p2p_address_parse(&address, text, 47) == 0)
		check_text(&address);
}

static void seed(const char *name, const char *text)
{
	char input[TEXT_MAX] = {0};

	memcpy(input + 1, text, strlen(text));
	fuzz_seed(name, input, 1 + strlen(text));
}

static void seeds(void)
{
	static const uint8_t packet4[20] = {1, 4, 10, 0, 0, 1}, packet6[20] = {1, 6, 0xfe, 0x80};

	seed("listen4", "127.0.0.1:4000");
	seed("listen6", "[::1]:0");
	seed("seed_name", "node-1.example_host:65535");
	seed("seed6", "[fe80::1:2:3:4%1]:7473");
	seed("scope", "fe80::1%lo");
	seed("mapped", "[::ffff:1.2.3.4]:9");
	seed("bare6", "1:2:3:4:5:6:7:8");
	seed("no_port", "1.2.3.4:");
	seed("great_port", "1.2.3.4:99999");
	seed("brackets", "[]:1");
	fuzz_seed("packet4", packet4, sizeof(packet4));
	fuzz_seed("packet6", packet6, sizeof(packet6));
}

const struct fuzz_target fuzz_target = {.name = "address",
					.len_max = 1 + TEXT_MAX,
					.memory_max = 0,
					.cpu_ms_max = 50,
					.one = one,
					.seeds = seeds};
