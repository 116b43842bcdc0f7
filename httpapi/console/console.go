package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"
)

// files is what a browser loads from a master. There is no build step: a file is served as it is.
//
//go:embed index.html icon.svg css js
var files embed.FS

// mediaTypes are the media types of the files, by the ends of their names.
var mediaTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".svg":  "image/svg+xml",
}

// asset is one file.
type asset struct {
	data []byte
	typ  string
	etag string // of the content
}

// handler serves the files: the page at /, and every file below /console/.
type handler struct {
	assets  map[string]asset // by path
	masters func() []string
	issuer  string
}

// New makes the handler of / and /console/. It takes no token: the console is the same for everyone and contains no
// data. masters returns the URLs of the cluster's masters, and issuer is the origin of the OIDC issuer at which the
// page signs in, "" for none. The page may send requests only to those and to its own origin.
func New(masters func() []string, issuer string) http.Handler {
	h := &handler{assets: map[string]asset{}, masters: masters, issuer: issuer}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := files.ReadFile(name)
		sum := sha256.Sum256(data)
		h.assets["/console/"+name] = asset{
			data: data, typ: mediaTypes[path.Ext(name)], etag: `"` + hex.EncodeToString(sum[:16]) + `"`,
		}
		return err
	})
	if err != nil {
		panic(err) // the files are part of the program
	}
	h.assets["/"] = h.assets["/console/index.html"]
	return h
}

// ServeHTTP implements [http.Handler]. A browser revalidates each file with its ETag, so that a page and its modules
// are always of one version. The other headers for browsers are those that every answer of a master has.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a, ok := h.assets[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	header := w.Header()
	header.Set("Content-Type", a.typ)
	header.Set("ETag", a.etag)
	header.Set("Cache-Control", "no-cache")
	header.Set("Permissions-Policy", noDevices)
	header.Set("Content-Security-Policy", contentPolicy(append(slices.Clone(h.masters()), h.issuer)))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(a.data))
}

// noDevices is the Permissions-Policy of the console.
const noDevices = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"

// contentPolicy is the Content-Security-Policy of the console: files from the page's origin, requests to the masters
// and the issuer only, pictures from the origin or made by the page (a record's payload), nothing inline, no frames.
func contentPolicy(hosts []string) string {
	connect := []string{"'self'"}
	for _, host := range hosts {
		if origin := originOf(host); origin != "" {
			connect = append(connect, origin)
		}
	}
	return "default-src 'self'; connect-src " + strings.Join(connect, " ") +
		"; img-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

// originOf is the origin of a master's URL, or "" where a policy cannot contain it: a policy has no form for a literal
// IPv6 address.
func originOf(master string) string {
	u, err := url.Parse(master)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
		strings.ContainsAny(u.Host, "[]*;,' \t\r\n") {
		return ""
	}
	return u.Scheme + "://" + strings.ToLower(u.Host)
}
