// A function that is an ordinary C program, by the rules of CGI: the request is
// in the environment and on standard input, the answer goes to standard output.
//
// Kind:  core module for WASI preview 1.
// Build: zig cc -target wasm32-wasi -Oz -s -Wl,-z,stack-size=65536 -o c-hello-cgi.wasm hello-cgi.c

#include <stdio.h>

int main(void) {
    fputs("Content-Type: text/plain\n\nhello from c\n", stdout);
    return 0;
}
