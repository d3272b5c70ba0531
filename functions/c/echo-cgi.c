// Sends the request's body back while it arrives, by the rules of CGI, with
// 64 KiB of memory whatever the body's size.
//
// The response also has x-echo-method, x-echo-path, and a copy of every
// request header whose name starts with x-test-.
//
// Kind:  core module for WASI preview 1.
// Build: zig cc -target wasm32-wasi -Oz -s -Wl,-z,stack-size=65536 -o c-echo-cgi.wasm echo-cgi.c

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

static const char *variable(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

// CGI spells the header `x-test-a: 1` as the variable `HTTP_X_TEST_A=1`.
static void copy_header(const char *variable) {
    if (strncmp(variable, "HTTP_X_TEST_", 12) != 0) return;
    const char *value = strchr(variable, '=');
    for (const char *c = variable + 5; c < value; c++)
        putchar(*c == '_' ? '-' : tolower((unsigned char)*c));
    printf(": %s\n", value + 1);
}

int main(void) {
    static char buffer[64 * 1024];
    const char *query = variable("QUERY_STRING", NULL);

    printf("Content-Type: %s\n", variable("CONTENT_TYPE", "application/octet-stream"));
    printf("x-echo-method: %s\n", variable("REQUEST_METHOD", ""));
    printf("x-echo-path: %s%s%s\n", variable("PATH_INFO", ""), query ? "?" : "", query ? query : "");
    for (char **each = environ; *each; each++) copy_header(*each);
    putchar('\n');
    fflush(stdout);

    for (;;) {
        ssize_t length = read(STDIN_FILENO, buffer, sizeof buffer);
        if (length < 0) return 1;
        if (length == 0) return 0;
        for (ssize_t done = 0; done < length;) {
            ssize_t written = write(STDOUT_FILENO, buffer + done, length - done);
            if (written < 0) return 1;
            done += written;
        }
    }
}
