package httpapi

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

// consoleFiles is the console: what a browser loads from a master. Nothing of it is built; a file is served as it lies there.
//
//go:embed console
var consoleFiles embed.FS

// consoleTypes are the files that there may be in the console, by their names' endings.
var consoleTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// asset is one file of the console.
type asset struct {
	data []byte
	typ  string
	etag string // of the content
}

// console serves the files of the console: / is its page, /console/… all else.
type console struct {
	assets  map[string]asset // by path
	masters func() []string
}

// NewConsole makes the handler of / and /console/…. The console takes no token: it is the same for everybody, and holds nothing but
// itself. masters are the URLs of the cluster's masters; the page may talk to these, and to its own origin, and to nobody else.
func NewConsole(masters func() []string) http.Handler {
	c := &console{assets: map[string]asset{}, masters: masters}
	err := fs.WalkDir(consoleFiles, "console", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := consoleFiles.ReadFile(name)
		sum := sha256.Sum256(data)
		c.assets["/"+name] = asset{data: data, typ: consoleTypes[path.Ext(name)], etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	c.assets["/"] = c.assets["/console/index.html"]
	return c
}

// ServeHTTP implements [http.Handler]. A browser asks anew each time and is told with an ETag that nothing has changed: a page and its
// modules are then always of one version.
func (c *console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := c.assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Content-Type", a.typ)
	h.Set("ETag", a.etag)
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", contentPolicy(c.masters()))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.data))
}

// contentPolicy is the Content-Security-Policy of the console: files from where the page is from, requests to the masters alone,
// pictures from there or made by the page (a record's payload), nothing inline, nothing framed.
func contentPolicy(masters []string) string {
	connect := []string{"'self'"}
	for _, master := range masters {
		if origin := originOf(master); origin != "" {
			connect = append(connect, origin)
		}
	}
	return "default-src 'self'; connect-src " + strings.Join(connect, " ") +
		"; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// originOf is the origin of a master's URL, "" where it has none that could stand in a policy: one of a literal IPv6 address, for
// which the policy has no form.
func originOf(master string) string {
	u, err := url.Parse(master)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.ContainsAny(u.Host, "[]*;,' \t\r\n") {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}
