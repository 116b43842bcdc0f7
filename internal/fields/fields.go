// Package fields reads the fields of binary formats, integers in big endian. It trusts no length. It is pure: package
// masterfsm uses it.
package fields

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Reader reads fields from the front of bytes. After a field that does not fit, every method returns a zero value.
type Reader struct {
	rest []byte
	err  error // the first
}

// New returns a reader of data. What it returns points into data.
func New(data []byte) *Reader { return &Reader{rest: data} }

// Fail reports that the fields read so far contradict each other. Only the first error is kept.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.rest = nil
}

// Failed reports whether a field did not fit. A loop over a count that was read must end then.
func (r *Reader) Failed() bool { return r.err != nil }

// Len returns the number of bytes that are left.
func (r *Reader) Len() int { return len(r.rest) }

// Rest returns the bytes that are left.
func (r *Reader) Rest() []byte { return r.rest }

// End returns the first error. Bytes that are left are one.
func (r *Reader) End() error {
	if len(r.rest) > 0 {
		r.Fail(fmt.Errorf("%d bytes follow its last field", len(r.rest)))
	}
	return r.err
}

// Bytes returns the next n bytes.
func (r *Reader) Bytes(n int) []byte {
	if n > len(r.rest) {
		r.Fail(errors.New("it ends within a field"))
		return nil
	}
	field := r.rest[:n:n]
	r.rest = r.rest[n:]
	return field
}

// Fixed returns the next n bytes, or zeros if fewer are left.
func (r *Reader) Fixed(n int) []byte {
	if field := r.Bytes(n); field != nil {
		return field
	}
	return make([]byte, n)
}

// Count returns the next four bytes: the number of elements that follow, each of at least size bytes. It fails if fewer
// bytes are left than these need, so that a caller may allocate memory for them.
func (r *Reader) Count(size int) uint32 {
	n := r.Uint32()
	if uint64(n)*uint64(size) > uint64(len(r.rest)) {
		r.Fail(fmt.Errorf("%d elements in %d bytes", n, len(r.rest)))
		return 0
	}
	return n
}

// Uint8 returns the next byte.
func (r *Reader) Uint8() uint8 { return r.Fixed(1)[0] }

// Uint16 returns the next two bytes.
func (r *Reader) Uint16() uint16 { return binary.BigEndian.Uint16(r.Fixed(2)) }

// Uint32 returns the next four bytes.
func (r *Reader) Uint32() uint32 { return binary.BigEndian.Uint32(r.Fixed(4)) }

// Uint64 returns the next eight bytes.
func (r *Reader) Uint64() uint64 { return binary.BigEndian.Uint64(r.Fixed(8)) }

// String8 returns a string. One byte in front of it is its length.
func (r *Reader) String8() string { return string(r.Bytes(int(r.Uint8()))) }
