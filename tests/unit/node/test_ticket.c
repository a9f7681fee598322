/* Tickets: round trip, every typo of one character refused, what kind of mistake it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
// cmocka needs the four above
#include <cmocka.h>
#include <ctype.h>
#include <sodium.h>
#include <stdio.h>

#include "node/ticket.h"

static void make_ticket(struct p2p_ticket *ticket)
{
	memset(ticket, 0, sizeof(*ticket));
	memset(ticket->mesh.bytes, 0x11, sizeof(ticket->mesh.bytes));
	memset(ticket->issuer.bytes, 0x22, sizeof(ticket->issuer.bytes));
	memset(ticket->secret, 0x33, sizeof(ticket->secret));
	ticket->role = 2;
	ticket->expires_s = 1800000000;
	(void)snprintf(ticket->name, sizeof(ticket->name), "notes.db");
	ticket->address_count = 2;
	ticket->addresses[0].family = 4;
	memcpy(ticket->addresses[0].bytes, "\x0a\x00\x00\x05", 4);
	ticket->addresses[0].port = 7473;
	ticket->addresses[1].family = 6;
	ticket->addresses[1].bytes[15] = 1;
	ticket->addresses[1].port = 1;
}

static void a_ticket_round_trips(void **state)
{
	struct p2p_ticket ticket, back;
	char text[P2P_TICKET_TEXT_MAX], address[64];

	(void)state;
	make_ticket(&ticket);
	p2p_ticket_format(text, &ticket);
	assert_int_equal(strncmp(text, "p2pt", 4), 0);
	assert_int_equal(p2p_ticket_parse(&back, text, NULL), 0);
	assert_memory_equal(back.mesh.bytes, ticket.mesh.bytes, 32);
	assert_memory_equal(back.issuer.bytes, ticket.issuer.bytes, 32);
	assert_memory_equal(back.secret, ticket.secret, 32);
	assert_int_equal(back.role, 2);
	assert_int_equal(back.expires_s, 1800000000);
	assert_string_equal(back.name, "notes.db");
	assert_int_equal(back.address_count, 2);
	p2p_ticket_address_text(&back.addresses[0], address);
	assert_string_equal(address, "10.0.0.5:7473");
	p2p_ticket_address_text(&back.addresses[1], address);
	assert_string_equal(address, "[::1]:1");
}

static void the_longest_and_the_shortest_ticket_round_trip(void **state)
{
	struct p2p_ticket ticket, back;
	char text[P2P_TICKET_TEXT_MAX];
	size_t i;

	(void)state;
	make_ticket(&ticket);
	memset(ticket.name, 'x', P2P_NAME_MAX);
	ticket.name[P2P_NAME_MAX] = 0;
	ticket.address_count = P2P_TICKET_ADDRESSES_MAX;
	for (i = 0; i < P2P_TICKET_ADDRESSES_MAX; i++)
		ticket.addresses[i] = ticket.addresses[1];
	p2p_ticket_format(text, &ticket);
	assert_int_equal(p2p_ticket_parse(&back, text, NULL), 0);
	assert_int_equal(strlen(back.name), P2P_NAME_MAX);
	assert_int_equal(back.address_count, P2P_TICKET_ADDRESSES_MAX);
	ticket.name[0] = 0;
	ticket.address_count = 0;
	p2p_ticket_format(text, &ticket);
	assert_int_equal(p2p_ticket_parse(&back, text, NULL), 0);
	assert_string_equal(back.name, "");
	assert_int_equal(back.address_count, 0);
}

static void case_spaces_and_hyphens_do_not_matter(void **state)
{
	struct p2p_ticket ticket, back;
	char text[P2P_TICKET_TEXT_MAX], spaced[2 * P2P_TICKET_TEXT_MAX];
	size_t i, at = 0;

	(void)state;
	make_ticket(&ticket);
	p2p_ticket_format(text, &ticket);
	spaced[at++] = ' ';
	for (i = 0; text[i]; i++) {
		spaced[at++] = (char)toupper((unsigned char)text[i]);
		if (i > 4 && i % 7 == 0)
			spaced[at++] = i % 2 ? '-' : '\n';
	}
	spaced[at] = 0;
	assert_int_equal(p2p_ticket_parse(&back, spaced, NULL), 0);
	assert_memory_equal(back.secret, ticket.secret, 32);
}

static void every_typo_of_one_character_is_refused(void **state)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567018!";
	struct p2p_ticket ticket, back;
	char text[P2P_TICKET_TEXT_MAX];
	size_t i, j;

	(void)state;
	make_ticket(&ticket);
	p2p_ticket_format(text, &ticket);
	memset(&back, 0x55, sizeof(back));
	for (i = 0; text[i]; i++) {
		char right = text[i];

		for (j = 0; letters[j]; j++) {
			struct p2p_error err = {0};

			if (letters[j] == right)
				continue;
			text[i] = letters[j];
			assert_int_equal(p2p_ticket_parse(&back, text, &err), P2P_EINVAL);
			assert_true(err.msg[0] != 0);
		}
		text[i] = right;
	}
	assert_int_equal(back.role, 0x55); /* untouched on failure */
}

static void missing_doubled_and_swapped_letters_are_refused(void **state)
{
	struct p2p_ticket ticket, back;
	char text[P2P_TICKET_TEXT_MAX], wrong[P2P_TICKET_TEXT_MAX + 1];
	size_t i, len;

	(void)state;
	make_ticket(&ticket);
	p2p_ticket_format(text, &ticket);
	len = strlen(text);
	for (i = 0; i < len; i++) {
		memcpy(wrong, text, i);
		memcpy(wrong + i, text + i + 1, len - i);
		assert_int_equal(p2p_ticket_parse(&back, wrong, NULL), P2P_EINVAL);
		memcpy(wrong, text, i + 1);
		memcpy(wrong + i + 1, text + i, len - i + 1);
		assert_int_equal(p2p_ticket_parse(&back, wrong, NULL), P2P_EINVAL);
		memcpy(wrong, text, len + 1);
		if (i + 1 < len && wrong[i] != wrong[i + 1]) {
			wrong[i] = text[i + 1];
			wrong[i + 1] = text[i];
			assert_int_equal(p2p_ticket_parse(&back, wrong, NULL), P2P_EINVAL);
		}
		memcpy(wrong, text, i);
		wrong[i] = 0; /* cut short */
		assert_int_equal(p2p_ticket_parse(&back, wrong, NULL), P2P_EINVAL);
	}
}

static void errors_say_which_kind_of_mistake_it_is(void **state)
{
	static const struct {
		const char *text, *says;
	} cases[] = {
		{"", "not a ticket"},
		{"hello", "not a ticket"},
		{"7-otter-marble-482", "short code"},
		{"p2pt", "too short"},
		{"p2ptaaaaaaaaaaaaaaaa", "checksum"},
		{"p2ptaaaa0aaaaaaaaaaa", "place 9"},
		{"p2ptaaaaaaaaaaaaaaaab", "end"},
	};
	struct p2p_ticket back;
	size_t i;

	(void)state;
	for (i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct p2p_error err = {0};

		assert_int_equal(p2p_ticket_parse(&back, cases[i].text, &err), P2P_EINVAL);
		if (!strstr(err.msg, cases[i].says))
			fail_msg("'%s' gives '%s', wanted '%s'", cases[i].text, err.msg,
				 cases[i].says);
	}
}

/* Content with a right checksum, as a hostile program would make it. */
static void seal(char *text, uint8_t *bytes, size_t len)
{
	struct p2p_hasher hasher;
	struct p2p_id sum;

	p2p_hasher_init(&hasher, "p2pnode/ticket/1", P2P_ID_BYTES);
	p2p_hasher_add(&hasher, bytes, len);
	p2p_hasher_final(&hasher, sum.bytes, P2P_ID_BYTES);
	memcpy(bytes + len, sum.bytes, 5);
	memcpy(text, "p2pt", 4);
	p2p_base32(text + 4, bytes, len + 5);
}

static void a_later_version_says_so(void **state)
{
	char text[P2P_TICKET_TEXT_MAX];
	uint8_t bytes[32] = {P2P_TICKET_VERSION + 1};
	struct p2p_error err = {0};
	struct p2p_ticket back;

	(void)state;
	seal(text, bytes, 20);
	assert_int_equal(p2p_ticket_parse(&back, text, &err), P2P_ENEWER);
	assert_non_null(strstr(err.msg, "version 2"));
}

static void hostile_content_under_a_right_checksum_is_refused(void **state)
{
	static const char *const names[] = {"../etc", "a/b", ".hidden", "-rf", "a\nb"};
	char text[P2P_TICKET_TEXT_MAX];
	uint8_t bytes[P2P_TICKET_BYTES_MAX];
	struct p2p_ticket back;
	size_t i, len;

	(void)state;
	for (len = 1; len < 150; len++) { /* every cut, all zero */
		memset(bytes, 0, sizeof(bytes));
		bytes[0] = P2P_TICKET_VERSION;
		seal(text, bytes, len);
		if (len == 1 + 96 + 1 + 4 + 1 + 1)
			assert_int_equal(p2p_ticket_parse(&back, text, NULL), 0);
		else
			assert_int_equal(p2p_ticket_parse(&back, text, NULL), P2P_EINVAL);
	}
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		memset(bytes, 0, sizeof(bytes));
		bytes[0] = P2P_TICKET_VERSION;
		len = strlen(names[i]);
		bytes[102] = (uint8_t)len;
		memcpy(bytes + 103, names[i], len);
		seal(text, bytes, 104 + len);
		assert_int_equal(p2p_ticket_parse(&back, text, NULL), P2P_EINVAL);
	}
	memset(bytes, 0, sizeof(bytes));
	bytes[0] = P2P_TICKET_VERSION;
	bytes[103] = 200; /* addresses */
	seal(text, bytes, 300);
	assert_int_equal(p2p_ticket_parse(&back, text, NULL), P2P_EINVAL);
}

static void the_invite_id_follows_from_the_secret(void **state)
{
	uint8_t secret[32] = {1};
	struct p2p_id a, b;

	(void)state;
	p2p_ticket_invite(&a, secret);
	secret[31] = 1;
	p2p_ticket_invite(&b, secret);
	assert_true(p2p_id_cmp(&a, &b) != 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_ticket_round_trips),
		cmocka_unit_test(the_longest_and_the_shortest_ticket_round_trip),
		cmocka_unit_test(case_spaces_and_hyphens_do_not_matter),
		cmocka_unit_test(every_typo_of_one_character_is_refused),
		cmocka_unit_test(missing_doubled_and_swapped_letters_are_refused),
		cmocka_unit_test(errors_say_which_kind_of_mistake_it_is),
		cmocka_unit_test(a_later_version_says_so),
		cmocka_unit_test(hostile_content_under_a_right_checksum_is_refused),
		cmocka_unit_test(the_invite_id_follows_from_the_secret),
	};

	if (sodium_init() < 0)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
