package httpapi

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/hashicorp/go-hclog"

	"github.com/chainstore/chainstore/wire"
)

// stream hides the length of a body, so that it is sent in chunks.
type stream struct{ io.Reader }

func TestReadBody(t *testing.T) {
	for _, c := range []struct {
		name   string
		body   io.Reader
		length int64 // -1 for that of the body
		coding []string
		want   error
	}{
		{"as long as the limit", strings.NewReader("12345"), -1, nil, nil},
		{"chunked", stream{strings.NewReader("12345")}, -1, nil, nil},
		{"identity", strings.NewReader("12345"), -1, []string{"identity", " Identity, "}, nil},
		{"too long", strings.NewReader("123456"), -1, nil, wire.ErrTooLarge},
		{"too long, chunked", stream{strings.NewReader("123456")}, -1, nil, wire.ErrTooLarge},
		{"cut short", strings.NewReader("123"), 5, nil, wire.ErrBadRequest},
		{"compressed", strings.NewReader("12345"), -1, []string{"gzip"}, wire.ErrEncoding},
		{"compressed twice", strings.NewReader("12345"), -1, []string{"identity", "identity, br"}, wire.ErrEncoding},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", c.body)
		if c.length >= 0 {
			r.ContentLength = c.length
		}
		r.Header["Content-Encoding"] = c.coding
		if body, err := ReadBody(r, 5); !errors.Is(err, c.want) || err == nil && string(body) != "12345" {
			t.Errorf("%s: %q, %v", c.name, body, err)
		}
	}
}

// TestReadBodyAllocatesOneBody checks that reading bodies allocates little more than the bodies, whatever their sizes,
// and that no body changes when others are read.
func TestReadBodyAllocatesOneBody(t *testing.T) {
	const rounds = 50
	for _, size := range []int{4 << 10, 27_000, 512 << 10, 4 << 20} {
		sent := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		var bodies [rounds][]byte
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := range bodies {
			r := httptest.NewRequest(http.MethodPost, "/", nil)
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(sent)), int64(len(sent))
			sent[0] = byte(i)
			var err error
			if bodies[i], err = ReadBody(r, int64(size)); err != nil {
				t.Fatal(err)
			}
		}
		runtime.ReadMemStats(&after)
		// Collections empty the pool, and a request takes some KiB.
		got, most := (after.TotalAlloc-before.TotalAlloc)/rounds, uint64(size+size/2+16<<10)
		if got > most && !underRace {
			t.Errorf("a body of %d bytes allocates %d, at most %d are due", size, got, most)
		}
		for i, body := range bodies {
			if body[0] != byte(i) || !bytes.Equal(body[1:], sent[1:]) {
				t.Errorf("body %d of %d bytes was changed", i, size)
			}
		}
	}
}

// TestRefusedBodyIsNotAskedFor checks that a client that waits for 100 Continue is refused without it.
func TestRefusedBodyIsNotAskedFor(t *testing.T) {
	for name, fields := range map[string]string{
		"too long": "Content-Length: 6\r\n", "compressed": "Content-Length: 3\r\nContent-Encoding: gzip\r\n",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := ReadBody(r, 5); err == nil {
				t.Errorf("%s: no error", name)
			}
			w.WriteHeader(http.StatusTeapot)
		}))
		defer server.Close()
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		head := "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n" + fields + "\r\n"
		if _, err := io.WriteString(conn, head); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || answer.StatusCode != http.StatusTeapot {
			t.Errorf("%s: the first answer is %+v, %v", name, answer, err)
		}
	}
}

func TestReadJSON(t *testing.T) {
	type value struct {
		A int `json:"a"`
	}
	for body, c := range map[string]struct{ json, exact bool }{
		`{"a":1}`: {true, true}, `{"a":1} `: {true, true}, `{"a":1,"b":2}`: {true, false}, `{"a":1}{}`: {false, false},
		`{"a":"x"}`: {false, false}, ``: {false, false}, `x`: {false, false},
	} {
		context := func() *gin.Context {
			c := gin.CreateTestContextOnly(httptest.NewRecorder(), New(hclog.NewNullLogger()).Engine)
			c.Request = httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
			return c
		}
		var v value
		if err := ReadJSON(context(), &v); (err == nil) != c.json || err != nil && !errors.Is(err, wire.ErrBadRequest) {
			t.Errorf("ReadJSON of %s: %v", body, err)
		}
		raw, err := ReadExact(context(), &v)
		if (err == nil) != c.exact || err != nil && !errors.Is(err, wire.ErrBadRequest) ||
			err == nil && string(raw) != body {
			t.Errorf("ReadExact of %s: %q, %v", body, raw, err)
		}
	}
}

func TestParseNumber(t *testing.T) {
	for text, want := range map[string]error{
		"0": nil, "007": nil, "255": nil,
		"256": wire.ErrNotFound, "-1": wire.ErrNotFound, "99999999999999999999": wire.ErrNotFound,
		"": wire.ErrBadRequest, "x": wire.ErrBadRequest, "1.5": wire.ErrBadRequest, "0x1": wire.ErrBadRequest,
	} {
		if n, err := ParseNumber("n", text, 255); !errors.Is(err, want) || n > 255 {
			t.Errorf("%q: %d, %v", text, n, err)
		}
	}
	if n, err := ParseNumber("n", "18446744073709551615", math.MaxUint64); n != math.MaxUint64 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}
