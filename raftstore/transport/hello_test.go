package transport

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzReadHello(f *testing.F) {
	raw, err := hello{group: "g", caller: "a", callee: "b"}.encode(helloVersion)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(raw[:len(raw)-1])
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n                                     "))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, raw, err := readHello(r)
		if err != nil {
			if !errors.Is(err, errHandshake) {
				t.Fatalf("%v", err)
			}
			return
		}
		if !bytes.HasPrefix(data, raw) || len(data)-r.Len() != len(raw) {
			t.Fatal("what was read is not what it says")
		}
		again, err := h.encode(raw[len(helloMagic)])
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[helloHead:], raw[helloHead:]) {
			t.Fatalf("%x became %x", raw, again)
		}
	})
}
