// Sends the request's body back while it arrives, by the rules of CGI, with
// 64 KiB of buffer whatever the body's size.
//
// The response also has x-echo-method, x-echo-path, and a copy of every
// request header whose name starts with x-test-.
//
// net/http/cgi would work as well; it makes the module several times larger.
//
// Kind:  core module for WASI preview 1.
// Build: GOOS=wasip1 GOARCH=wasm go build -ldflags='-s -w' -o go-echo.wasm ./echo
package main

import (
	"io"
	"os"
	"strings"
)

func main() {
	contentType := os.Getenv("CONTENT_TYPE")
	if contentType == "" {
		contentType = "application/octet-stream"
	}
	path := os.Getenv("PATH_INFO")
	if query := os.Getenv("QUERY_STRING"); query != "" {
		path += "?" + query
	}

	var head strings.Builder
	line := func(name, value string) { head.WriteString(name + ": " + value + "\n") }
	line("Content-Type", contentType)
	line("x-echo-method", os.Getenv("REQUEST_METHOD"))
	line("x-echo-path", path)
	for _, variable := range os.Environ() {
		// CGI spells the header `x-test-a: 1` as the variable `HTTP_X_TEST_A=1`.
		name, value, _ := strings.Cut(variable, "=")
		if rest, found := strings.CutPrefix(name, "HTTP_X_TEST_"); found {
			line("x-test-"+strings.ToLower(strings.ReplaceAll(rest, "_", "-")), value)
		}
	}
	os.Stdout.WriteString(head.String() + "\n")

	// Plain interfaces only: with a *os.File, CopyBuffer would ignore the buffer.
	in, out := struct{ io.Reader }{os.Stdin}, struct{ io.Writer }{os.Stdout}
	if _, err := io.CopyBuffer(out, in, make([]byte, 64*1024)); err != nil {
		os.Exit(1)
	}
}
