// A program with a start-up of its own. It answers with a result of the start-up
// and with the request's query, which must not be the start-up's.
//
// Kind:  core module for WASI preview 1.

#include <stdio.h>
#include <stdlib.h>

static int squares[1000];

__attribute__((export_name("wizer-initialize")))
void prepare(void) {
    for (int i = 0; i < 1000; i++) squares[i] = i * i;
}

__attribute__((export_name("read-a-variable")))
void read_a_variable(void) {
    squares[1] = getenv("QUERY_STRING") != NULL;
}

int main(void) {
    const char *query = getenv("QUERY_STRING");
    printf("Content-Type: text/plain\n\n%d %s\n", squares[999], query ? query : "none");
    return 0;
}
