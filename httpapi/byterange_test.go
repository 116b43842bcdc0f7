package httpapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// TestRange checks answers to ranges of a content of ten bytes. Each row names its section of RFC 9110.
func TestRange(t *testing.T) {
	const content, tag = "0123456789", `"5f"`
	for _, c := range []struct {
		section    string
		method     string // GET if empty
		ranges     []string
		ifRange    []string
		tag        string // of the content; none if "-", tag if empty
		status     int
		body, part string // part is Content-Range
	}{
		{section: "14.2 no range", status: 200, body: content},
		{section: "14.1.2 first-last", ranges: []string{"bytes=2-4"}, status: 206, body: "234", part: "bytes 2-4/10"},
		{section: "14.1.2 one byte", ranges: []string{"bytes=0-0"}, status: 206, body: "0", part: "bytes 0-0/10"},
		{section: "14.1.2 last byte", ranges: []string{"bytes=9-9"}, status: 206, body: "9", part: "bytes 9-9/10"},
		{section: "14.1.2 everything", ranges: []string{"bytes=0-9"}, status: 206, body: content, part: "bytes 0-9/10"},
		{section: "14.1.2 to the end", ranges: []string{"bytes=7-"}, status: 206, body: "789", part: "bytes 7-9/10"},
		{section: "14.1.2 last beyond the end", ranges: []string{"bytes=7-99"}, status: 206, body: "789",
			part: "bytes 7-9/10"},
		{section: "14.1.2 last does not fit", ranges: []string{"bytes=7-99999999999999999999999"}, status: 206,
			body: "789", part: "bytes 7-9/10"},
		{section: "14.1.2 suffix", ranges: []string{"bytes=-3"}, status: 206, body: "789", part: "bytes 7-9/10"},
		{section: "14.1.2 suffix longer than the content", ranges: []string{"bytes=-99"}, status: 206, body: content,
			part: "bytes 0-9/10"},
		{section: "14.1.2 suffix does not fit", ranges: []string{"bytes=-99999999999999999999999"}, status: 206,
			body: content, part: "bytes 0-9/10"},
		{section: "14.1.2 suffix of 0", ranges: []string{"bytes=-0"}, status: 416, part: "bytes */10"},
		{section: "15.5.17 first at the end", ranges: []string{"bytes=10-"}, status: 416, part: "bytes */10"},
		{section: "15.5.17 first beyond the end", ranges: []string{"bytes=11-12"}, status: 416, part: "bytes */10"},
		{section: "15.5.17 first does not fit", ranges: []string{"bytes=99999999999999999999999-"}, status: 416,
			part: "bytes */10"},
		{section: "14.1.1 unit in capitals", ranges: []string{"BYTES=2-4"}, status: 206, body: "234",
			part: "bytes 2-4/10"},
		{section: "14.2 unknown unit", ranges: []string{"lines=2-4"}, status: 200, body: content},
		{section: "14.1.1 last before first", ranges: []string{"bytes=4-2"}, status: 200, body: content},
		{section: "14.1.1 no digits", ranges: []string{"bytes=a-b"}, status: 200, body: content},
		{section: "14.1.1 sign", ranges: []string{"bytes=+2-4"}, status: 200, body: content},
		{section: "14.1.1 sign of a suffix", ranges: []string{"bytes=--3"}, status: 200, body: content},
		{section: "14.1.1 no dash", ranges: []string{"bytes=2"}, status: 200, body: content},
		{section: "14.1.1 only a dash", ranges: []string{"bytes=-"}, status: 200, body: content},
		{section: "14.1.1 empty set", ranges: []string{"bytes="}, status: 200, body: content},
		{section: "14.1.1 no set", ranges: []string{"bytes"}, status: 200, body: content},
		{section: "14.1.1 spaces around the range", ranges: []string{"bytes= 2-4 "}, status: 206, body: "234",
			part: "bytes 2-4/10"},
		{section: "14.2 several ranges", ranges: []string{"bytes=0-1,4-5"}, status: 200, body: content},
		{section: "14.2 several headers", ranges: []string{"bytes=0-1", "bytes=4-5"}, status: 200, body: content},
		{section: "14.2 HEAD", method: "HEAD", ranges: []string{"bytes=2-4"}, status: 200, body: content},
		{section: "13.1.5 the current tag", ranges: []string{"bytes=2-4"}, ifRange: []string{tag}, status: 206,
			body: "234", part: "bytes 2-4/10"},
		{section: "13.1.5 another tag", ranges: []string{"bytes=2-4"}, ifRange: []string{`"5e"`}, status: 200,
			body: content},
		{section: "13.1.5 another tag and a range beyond the end", ranges: []string{"bytes=10-"},
			ifRange: []string{`"5e"`}, status: 200, body: content},
		{section: "8.8.3.2 weak tag", ranges: []string{"bytes=2-4"}, ifRange: []string{"W/" + tag}, status: 200,
			body: content},
		{section: "8.8.3.2 both weak", ranges: []string{"bytes=2-4"}, ifRange: []string{"W/" + tag}, tag: "W/" + tag,
			status: 200, body: content},
		{section: "13.1.5 a date", ranges: []string{"bytes=2-4"}, ifRange: []string{"Sun, 29 Nov 2026 20:00:00 GMT"},
			status: 200, body: content},
		{section: "13.1.5 two conditions", ranges: []string{"bytes=2-4"}, ifRange: []string{tag, tag}, status: 200,
			body: content},
		{section: "13.1.5 no tag", ranges: []string{"bytes=2-4"}, ifRange: []string{""}, tag: "-", status: 200,
			body: content},
		{section: "14.2 a content without a tag", ranges: []string{"bytes=2-4"}, tag: "-", status: 206, body: "234",
			part: "bytes 2-4/10"},
	} {
		t.Run(c.section, func(t *testing.T) {
			e := New(hclog.NewNullLogger())
			e.GetAndHead("/", e.Do(func(g *gin.Context) error {
				switch c.tag {
				case "":
					g.Header("ETag", tag)
				case "-":
				default:
					g.Header("ETag", c.tag)
				}
				return AnswerContent(g, "text/x", []byte(content), func(h http.Header) { h.Set("X-About", "it") })
			}))
			method := c.method
			if method == "" {
				method = "GET"
			}
			r := httptest.NewRequest(method, "/", nil)
			r.Header["Range"], r.Header["If-Range"] = c.ranges, c.ifRange
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			if w.Code != c.status || w.Header().Get("Content-Range") != c.part {
				t.Fatalf("status %d, Content-Range %q; want %d, %q", w.Code, w.Header().Get("Content-Range"), c.status,
					c.part)
			}
			if got := w.Header().Get("Accept-Ranges"); got != "bytes" {
				t.Errorf("Accept-Ranges %q", got)
			}
			if c.status == 416 {
				var p wire.Problem
				if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil ||
					p.Type != wire.ProblemBase+"range-not-satisfiable" || w.Header().Get("ETag") != "" ||
					w.Header().Get("X-About") != "" {
					t.Errorf("%s, %v", w.Body, err)
				}
				return
			}
			if w.Body.String() != c.body || w.Header().Get("Content-Type") != "text/x" ||
				w.Header().Get("X-About") != "it" {
				t.Errorf("%q of type %q, want %q", w.Body, w.Header().Get("Content-Type"), c.body)
			}
		})
	}
}

// TestRangeOfNothing checks that a range of an empty content is ignored: no Content-Range could describe it.
func TestRangeOfNothing(t *testing.T) {
	e := New(hclog.NewNullLogger())
	e.GET("/", e.Do(func(g *gin.Context) error { return AnswerContent(g, "text/x", nil, func(http.Header) {}) }))
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Range", "bytes=0-")
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if w.Code != 200 || w.Body.Len() != 0 {
		t.Errorf("status %d, %q", w.Code, w.Body)
	}
}

// FuzzRange checks that no range leads outside the content.
func FuzzRange(f *testing.F) {
	f.Add("bytes=2-4", 10)
	f.Add("bytes=-0", 1)
	f.Add("bytes=9223372036854775807-", 3)
	f.Fuzz(func(t *testing.T, value string, size int) {
		if size < 0 {
			size = -(size + 1)
		}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header["Range"] = []string{value}
		p, asked, err := requestedPart(r, "", size)
		if asked && (err != nil || p.first < 0 || p.first >= p.end || p.end > size) {
			t.Errorf("%q of %d bytes: %+v, %v", value, size, p, err)
		}
	})
}
