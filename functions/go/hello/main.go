// A function that is an ordinary Go program, by the rules of CGI: the request is
// in the environment and on standard input, the answer goes to standard output.
//
// Kind:  core module for WASI preview 1.
// Build: GOOS=wasip1 GOARCH=wasm go build -ldflags='-s -w' -o go-hello.wasm ./hello
package main

import "os"

func main() {
	os.Stdout.WriteString("Content-Type: text/plain\n\nhello from go\n")
}
