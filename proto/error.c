/* Error names, texts and context; see error.h. */
#include "proto/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "proto/check.h"

const char *p2p_strerror(int code)
{
	switch (code) {
	case P2P_OK:
		return "ok";
#define X(name, value, blame, text) \
	case P2P_##name:            \
		return text;
		P2P_ERRORS(X)
#undef X
	default:
		return "unknown error";
	}
}

const char *p2p_err_name(int code)
{
	switch (code) {
	case P2P_OK:
		return "P2P_OK";
#define X(name, value, blame, text) \
	case P2P_##name:            \
		return "P2P_" #name;
		P2P_ERRORS(X)
#undef X
	default:
		return "P2P_UNKNOWN";
	}
}

enum p2p_blame p2p_err_blame(int code)
{
	switch (code) {
#define X(name, value, blame, text) \
	case P2P_##name:            \
		return P2P_BLAME_##blame;
		P2P_ERRORS(X)
#undef X
	default:
		return P2P_BLAME_LOCAL;
	}
}

int p2p_error_set(struct p2p_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	p2p_require(code < 0);
	if (!err)
		return code;
	err->code = code;
	va_start(ap, fmt);
	(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap); /* a cut text is still a text */
	va_end(ap);
	return code;
}

int p2p_error_wrap(struct p2p_error *err, int code, const char *fmt, ...)
{
	char old[sizeof(err->msg)];
	size_t len, left;
	va_list ap;

	p2p_require(code < 0);
	if (!err)
		return code;
	if (err->code == 0)
		(void)snprintf(err->msg, sizeof(err->msg), "%s", p2p_strerror(code));
	memcpy(old, err->msg, sizeof(old));
	err->code = code;
	va_start(ap, fmt);
	(void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
	va_end(ap);
	len = strlen(err->msg);
	left = sizeof(err->msg) - 1 - len;
	if (left <= 2)
		return code;
	memcpy(err->msg + len, ": ", 2);
	left = left - 2 < strlen(old) ? left - 2 : strlen(old);
	memcpy(err->msg + len + 2, old, left);
	err->msg[len + 2 + left] = 0;
	return code;
}
