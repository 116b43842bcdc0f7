package fields_test

import (
	"errors"
	"testing"

	"github.com/chainstore/chainstore/internal/fields"
)

func TestReader(t *testing.T) {
	contradiction := errors.New("contradiction")
	for name, c := range map[string]struct {
		data string
		read func(*fields.Reader)
		want string // error, "" for none
	}{
		"all fields": {"\x01\x00\x02\x00\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\x04\x01xyz", func(r *fields.Reader) {
			a, b, c, d, e := r.Uint8(), r.Uint16(), r.Uint32(), r.Uint64(), r.String8()
			if a != 1 || b != 2 || c != 3 || d != 4 || e != "x" || r.Len() != 2 || string(r.Rest()) != "yz" {
				t.Errorf("%d, %d, %d, %d, %q, %d left", a, b, c, d, e, r.Len())
			}
			if got := string(r.Fixed(2)); got != "yz" || r.Failed() {
				t.Errorf("%q", got)
			}
		}, ""},
		"bytes are left": {"\x01\x02", func(r *fields.Reader) { r.Uint8() }, "1 bytes follow its last field"},
		"cut short": {"\x01\x02", func(r *fields.Reader) {
			if v, w := r.Uint32(), r.Uint8(); v != 0 || w != 0 || !r.Failed() {
				t.Errorf("%d, %d", v, w)
			}
		}, "it ends within a field"},
		"as many as fit": {"\x00\x00\x00\x02abcd", func(r *fields.Reader) {
			if n := r.Count(2); n != 2 || string(r.Bytes(4)) != "abcd" {
				t.Errorf("%d", n)
			}
		}, ""},
		"more than fit": {"\xff\xff\xff\xffabcd", func(r *fields.Reader) {
			if n := r.Count(1 << 40); n != 0 || r.Len() != 0 {
				t.Errorf("%d", n)
			}
		}, "4294967295 elements in 4 bytes"},
		"the first error": {"", func(r *fields.Reader) { r.Fail(contradiction); r.Uint8() }, "contradiction"},
	} {
		r := fields.New([]byte(c.data))
		c.read(r)
		got := ""
		if err := r.End(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
