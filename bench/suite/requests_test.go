package suite

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/chainstore/chainstore/wire"
)

// parse reads a prepared request as net/http's server does.
func parse(t *testing.T, request []byte) (*http.Request, []byte) {
	t.Helper()
	in := bufio.NewReader(bytes.NewReader(request))
	r, err := http.ReadRequest(in)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	if n := in.Buffered(); n > 0 {
		t.Fatalf("%d bytes behind the request", n)
	}
	return r, body
}

func TestBatchesAreFramesThatDiffer(t *testing.T) {
	p := newBatch("host:1", "token", 7, 100)
	seen := map[string]bool{}
	for range 3 {
		r, body := parse(t, p.next())
		if r.Method != http.MethodPost || r.URL.Path != "/v1/records:batch" ||
			r.Header.Get("Content-Type") != wire.TypeFrames || r.Host != "host:1" {
			t.Fatalf("%s %s, %v", r.Method, r.URL, r.Header)
		}
		err := wire.ParseFrames(body, func(key, typ, payload []byte) error {
			if len(key)+len(typ) > 0 || seen[string(payload)] {
				return fmt.Errorf("frame with key %q, type %q; seen before: %v", key, typ, seen[string(payload)])
			}
			seen[string(payload)] = true
			return isPayload(payload)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(seen) != 300 {
		t.Errorf("%d payloads of 300", len(seen))
	}
}

func TestReadsReachEveryRecordAndNoOther(t *testing.T) {
	p := &places{}
	p.add(9, 2)
	p.add(4, 0)
	p.add(3, 3)
	want := map[string]bool{}
	for _, at := range []string{"9/records/0", "9/records/1", "3/records/0", "3/records/1", "3/records/2"} {
		want["/v1/blocks/"+at] = true
	}
	if p.records() != 5 {
		t.Fatalf("%d records", p.records())
	}
	next := newRead("host:1", "token", p, 0, p.records())
	seen := map[string]bool{}
	for range 500 {
		r, _ := parse(t, next())
		if !want[r.URL.Path] || r.Method != http.MethodGet || r.Header.Get("Authorization") != "Bearer token" {
			t.Fatalf("%s %s", r.Method, r.URL.Path)
		}
		seen[r.URL.Path] = true
	}
	if len(seen) != 5 {
		t.Errorf("only %v were read", seen)
	}
	next = newRead("host:1", "token", p, 1, 3)
	seen = map[string]bool{}
	for range 100 {
		r, _ := parse(t, next())
		seen[r.URL.Path] = true
	}
	if len(seen) != 2 || !seen["/v1/blocks/9/records/1"] || !seen["/v1/blocks/3/records/0"] {
		t.Errorf("records 1 and 2 are wanted, %v were read", seen)
	}
}

func TestIsPayload(t *testing.T) {
	good := payload(1)
	if err := isPayload(good); err != nil {
		t.Error(err)
	}
	for _, bad := range [][]byte{nil, good[1:], bytes.Repeat([]byte("x"), payloadSize)} {
		if isPayload(bad) == nil {
			t.Errorf("%.20q was taken", bad)
		}
	}
}

func TestHostOf(t *testing.T) {
	for _, good := range []string{"http://127.0.0.1:8000", "https://127.0.0.1:8000"} {
		if host, err := hostOf(good); err != nil || host != "127.0.0.1:8000" {
			t.Error(good, host, err)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:8000", "ftp://a:1", "http://a", "http://a:b:c"} {
		if host, err := hostOf(bad); err == nil {
			t.Errorf("%q gave %q", bad, host)
		}
	}
}
