package suite

import (
	"bufio"
	"bytes"
	"encoding/binary"
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
		if r.Method != http.MethodPost || r.URL.Path != "/v1/records:batch" || r.Header.Get("Content-Type") != wire.TypeFrames || r.Host != "host:1" {
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
	next := newRead("host:1", "token", p)
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

// fields reads the length-delimited fields of a Protobuf message.
func fields(t *testing.T, message []byte) map[uint64][][]byte {
	t.Helper()
	found := map[uint64][][]byte{}
	for len(message) > 0 {
		tag, n := binary.Uvarint(message)
		if n <= 0 || tag&7 != 2 {
			t.Fatalf("tag %d", tag)
		}
		message = message[n:]
		length, n := binary.Uvarint(message)
		if n <= 0 || length > uint64(len(message)-n) {
			t.Fatalf("length %d of %d", length, len(message))
		}
		found[tag>>3] = append(found[tag>>3], message[n:n+int(length)])
		message = message[n+int(length):]
	}
	return found
}

// checkPut holds a PutRequest against what it should be, and remembers its key.
func checkPut(t *testing.T, message []byte, seen map[string]bool) {
	t.Helper()
	put := fields(t, message)
	if len(put) != 2 || len(put[1]) != 1 || len(put[2]) != 1 || isPayload(put[2][0]) != nil || len(put[1][0]) != 16 {
		t.Fatalf("PutRequest %.80q", message)
	}
	if seen[string(put[1][0])] {
		t.Fatalf("key %x came twice", put[1][0])
	}
	seen[string(put[1][0])] = true
}

func TestEtcdRequests(t *testing.T) {
	seen := map[string]bool{}
	put, txn := newEtcdPut(1), newEtcdTxn(1<<32|1, 100)
	for range 3 {
		checkPut(t, put.next(), seen)
		message := fields(t, txn.next())
		if len(message) != 1 || len(message[2]) != 100 {
			t.Fatalf("TxnRequest with %d operations", len(message[2]))
		}
		for _, op := range message[2] {
			request := fields(t, op)
			if len(request) != 1 || len(request[2]) != 1 {
				t.Fatalf("RequestOp %.80q", op)
			}
			checkPut(t, request[2][0], seen)
		}
	}
	if n := len(txn.bytes) + 5; n > defaultWindow {
		t.Errorf("a transaction of %d bytes is over a stream's first window", n)
	}
}

func TestHostOf(t *testing.T) {
	if host, err := hostOf("http://127.0.0.1:8000"); err != nil || host != "127.0.0.1:8000" {
		t.Error(host, err)
	}
	for _, bad := range []string{"", "127.0.0.1:8000", "https://a:1", "http://a", "http://a:b:c"} {
		if host, err := hostOf(bad); err == nil {
			t.Errorf("%q gave %q", bad, host)
		}
	}
}
