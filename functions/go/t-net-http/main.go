// A program with the large parts of Go's standard library: an HTTP handler behind
// net/http/cgi, with routes, a template, JSON and a picture. Ordinary programs
// are about as large, and have as many data segments.
//
// Kind:  core module for WASI preview 1.
// Build: GOOS=wasip1 GOARCH=wasm go build -ldflags='-s -w' -o t-net-http.wasm ./t-net-http
package main

import (
	"encoding/json"
	"fmt"
	"html/template"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/cgi"
)

var page = template.Must(template.New("page").Parse("<p>Hello, {{.}}!</p>\n"))

func main() {
	routes := http.NewServeMux()
	routes.HandleFunc("GET /hello/{name}", func(w http.ResponseWriter, r *http.Request) {
		page.Execute(w, r.PathValue("name"))
	})
	routes.HandleFunc("POST /sum", func(w http.ResponseWriter, r *http.Request) {
		var asked struct{ Numbers []int }
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		sum := 0
		for _, number := range asked.Numbers {
			sum += number
		}
		json.NewEncoder(w).Encode(map[string]int{"sum": sum})
	})
	routes.HandleFunc("POST /length", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%d of %d\n", len(body), r.ContentLength)
	})
	routes.HandleFunc("GET /picture", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "image/png")
		png.Encode(w, image.NewGray(image.Rect(0, 0, 32, 32)))
	})
	cgi.Serve(http.StripPrefix("/f/t-net-http", routes))
}
