/* Words of an SQL text; see sqltext.h. */
#include "crdt/sqltext.h"

#include <string.h>

#include "crdt/apptable.h"

static bool char_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

static bool char_word(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       c == '_' || c == '$' || (unsigned char)c >= 0x80;
}

static char char_lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static const char *skip_comment(const char *at)
{
	const char *end;

	if (at[0] == '-' && at[1] == '-') {
		end = strchr(at, '\n');
		return end ? end + 1 : at + strlen(at);
	}
	end = strstr(at + 2, "*/");
	return end ? end + 2 : at + strlen(at);
}

static const char *skip_space(const char *at)
{
	for (;;) {
		if (char_space(*at))
			at++;
		else if ((at[0] == '-' && at[1] == '-') || (at[0] == '/' && at[1] == '*'))
			at = skip_comment(at);
		else
			return at;
	}
}

/* Behind the closing quote; a doubled one stands for itself, but not in brackets. */
static const char *skip_quoted(const char *at)
{
	char close = *at == '[' ? ']' : *at;

	for (at++; *at; at++) {
		if (*at != close)
			continue;
		if (close == ']' || at[1] != close)
			return at + 1;
		at++;
	}
	return at;
}

void p2p_token_next(const char **at, struct p2p_token *out)
{
	const char *end;

	out->text = end = skip_space(*at);
	if (!*end) {
		out->kind = P2P_TOKEN_END;
	} else if (strchr("\"'`[", *end)) {
		out->kind = P2P_TOKEN_QUOTED;
		end = skip_quoted(end);
	} else if (char_word(*end)) {
		out->kind = P2P_TOKEN_WORD;
		while (char_word(*end))
			end++;
	} else {
		out->kind = P2P_TOKEN_SIGN;
		end++;
	}
	out->len = (size_t)(end - out->text);
	*at = end;
}

bool p2p_token_is(const struct p2p_token *token, const char *word)
{
	size_t i;

	if (token->kind != P2P_TOKEN_WORD && token->kind != P2P_TOKEN_SIGN)
		return false;
	for (i = 0; i < token->len; i++)
		if (char_lower(token->text[i]) != char_lower(word[i]))
			return false;
	return !word[i];
}

bool p2p_sqltext_has(const char *sql, const char *const *words, size_t count)
{
	struct p2p_token token;
	const char *at = sql, *next;
	size_t found;

	do {
		p2p_token_next(&at, &token);
		next = at;
		for (found = 0; found < count && p2p_token_is(&token, words[found]); found++)
			p2p_token_next(&next, &token);
		if (found == count)
			return true;
		next = at;
		p2p_token_next(&next, &token);
	} while (token.kind != P2P_TOKEN_END);
	return false;
}

/* --- triggers -------------------------------------------------------------------------------- */

/* A name, or two with a point between. */
static bool read_name(const char **at)
{
	struct p2p_token token;
	const char *next;

	p2p_token_next(at, &token);
	if (token.kind != P2P_TOKEN_WORD && token.kind != P2P_TOKEN_QUOTED)
		return false;
	next = *at;
	p2p_token_next(&next, &token);
	if (!p2p_token_is(&token, "."))
		return true;
	*at = next;
	p2p_token_next(at, &token);
	return token.kind == P2P_TOKEN_WORD || token.kind == P2P_TOKEN_QUOTED;
}

/* BEFORE, AFTER, INSTEAD OF; the event; the columns; up to ON. */
static bool read_event(const char **at, struct p2p_trigger_text *out)
{
	struct p2p_token token;
	bool event = false;

	do {
		p2p_token_next(at, &token);
		if (event)
			continue;
		if (p2p_token_is(&token, "INSTEAD"))
			out->instead = true;
		event = true;
		if (p2p_token_is(&token, "INSERT"))
			out->event = P2P_SQL_INSERT;
		else if (p2p_token_is(&token, "UPDATE"))
			out->event = P2P_SQL_UPDATE;
		else if (p2p_token_is(&token, "DELETE"))
			out->event = P2P_SQL_DELETE;
		else
			event = false;
	} while (token.kind != P2P_TOKEN_END && !p2p_token_is(&token, "ON"));
	return event && token.kind != P2P_TOKEN_END;
}

/* A condition ends where the body begins: BEGIN outside of parentheses, and no column. */
static bool read_condition(const char **at, struct p2p_trigger_text *out)
{
	struct p2p_token token;
	bool point = false;
	size_t depth = 0;

	out->when = *at;
	for (;;) {
		p2p_token_next(at, &token);
		if (token.kind == P2P_TOKEN_END)
			return false;
		if (!depth && !point && p2p_token_is(&token, "BEGIN"))
			break;
		if (p2p_token_is(&token, "("))
			depth++;
		else if (depth && p2p_token_is(&token, ")"))
			depth--;
		point = p2p_token_is(&token, ".");
	}
	out->body = token.text;
	return true;
}

bool p2p_trigger_text_read(struct p2p_trigger_text *out, const char *sql)
{
	static const char *const each[] = {"FOR", "EACH", "ROW"};
	struct p2p_token token;
	const char *at = sql;
	size_t i;

	memset(out, 0, sizeof(*out));
	p2p_token_next(&at, &token);
	if (!p2p_token_is(&token, "CREATE"))
		return false;
	p2p_token_next(&at, &token);
	if (!p2p_token_is(&token, "TRIGGER") || !read_name(&at))
		return false;
	out->rest = at;
	if (!read_event(&at, out) || !read_name(&at))
		return false;
	out->rest_end = at;
	p2p_token_next(&at, &token);
	for (i = 0; i < 3 && p2p_token_is(&token, each[i]); i++) {
		out->rest_end = at;
		p2p_token_next(&at, &token);
	}
	if (p2p_token_is(&token, "WHEN"))
		return read_condition(&at, out);
	out->body = token.text;
	return p2p_token_is(&token, "BEGIN");
}

void p2p_trigger_text_copy(struct p2p_buf *sql, const struct p2p_trigger_text *text,
			   const char *name, const char *guard)
{
	p2p_sql_text(sql, "CREATE TEMP TRIGGER ");
	p2p_sql_name(sql, name);
	p2p_sql_text(sql, " ");
	p2p_buf_put(sql, text->rest, (size_t)(text->rest_end - text->rest));
	p2p_sql_text(sql, " WHEN ");
	p2p_sql_text(sql, guard);
	if (text->when) {
		p2p_sql_text(sql, " AND (");
		p2p_buf_put(sql, text->when, (size_t)(text->body - text->when));
		p2p_sql_text(sql, ")");
	}
	p2p_sql_text(sql, " ");
	p2p_sql_text(sql, text->body);
}
