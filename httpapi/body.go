package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/nodeauth"
	"github.com/chainstore/chainstore/wire"
)

// MaxSmallBody bounds the JSON bodies of administration.
const MaxSmallBody = 64 << 10

// identityCoding is the only content coding of a body that is accepted: none.
const identityCoding = "identity"

const (
	// firstRead is how much memory a body gets before any of it has arrived. It doubles as more arrives.
	firstRead = 4 << 10
	// pooledSizes is how many sizes of buffers are pooled: firstRead and its doubles up to 2 MiB.
	pooledSizes = 10
)

// buffers has the buffers that bodies have outgrown, by size. A buffer that became a body does not return to it.
var buffers [pooledSizes]sync.Pool

// poolOf returns the pool of buffers of a size, nil if that size is not pooled.
func poolOf(size int64) *sync.Pool {
	if size < firstRead || size&(size-1) != 0 {
		return nil
	}
	i := bits.Len64(uint64(size/firstRead)) - 1
	if i >= pooledSizes {
		return nil
	}
	return &buffers[i]
}

// grow returns a buffer of a size with a copy of data, which the caller does not use any more.
func grow(data []byte, size int64) []byte {
	var larger []byte
	if pool := poolOf(size); pool != nil {
		if b, ok := pool.Get().(*[]byte); ok {
			larger = (*b)[:0]
		}
	}
	if larger == nil {
		larger = make([]byte, 0, size)
	}
	larger = append(larger, data...)
	if pool := poolOf(int64(cap(data))); pool != nil {
		pool.Put(&data)
	}
	return larger
}

// ReadBody reads a body of at most limit bytes. Its memory grows with the bytes that have arrived, whatever length the
// header has. The error wraps wire.ErrTooLarge where it is longer, wire.ErrEncoding where it has a content coding (its
// bytes are not the content then), wire.ErrSlowBody where it arrives too slowly, and wire.ErrBacklog where it is
// tracked and there is no room for it: see [Intake].
func ReadBody(r *http.Request, limit int64) (data []byte, err error) {
	held := bodyOf(r)
	defer func() {
		if err != nil {
			held.free()
		}
	}()
	if err := CheckCoding(r); err != nil {
		return nil, err
	}
	if r.ContentLength > limit {
		return nil, overLimit(r.ContentLength, limit)
	}
	atMost := limit
	if r.ContentLength >= 0 {
		atMost = r.ContentLength
	}
	held.begin(atMost)
	for {
		if len(data) == cap(data) {
			size := min(max(firstRead, 2*int64(cap(data))), limit+1) // one more, to see that it is longer
			if r.ContentLength >= 0 {
				size = min(size, r.ContentLength+1) // one more, to see its end
			}
			if err := held.take(size - int64(cap(data))); err != nil {
				return nil, err
			}
			data = grow(data, size)
		}
		n, err := r.Body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case int64(len(data)) > limit:
			return nil, overLimit(-1, limit)
		case err == io.EOF && int64(len(data)) < r.ContentLength:
			return nil, CutShort(io.ErrUnexpectedEOF)
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, CutShort(err)
		case int64(len(data)) == r.ContentLength:
			return data, nil
		}
	}
}

// CheckCoding refuses a body with a content coding: its bytes are not the content. The error wraps wire.ErrEncoding.
func CheckCoding(r *http.Request) error {
	if coding := contentCoding(r.Header); coding != identityCoding {
		return fmt.Errorf("%w: the body's Content-Encoding is %q: send it uncompressed, without that header",
			wire.ErrEncoding, coding)
	}
	return nil
}

// contentCoding is the first content coding of a body that is not identity (RFC 9110, section 8.4). The field is a
// list, may occur several times, and its values are case-insensitive.
func contentCoding(h http.Header) string {
	for _, field := range h.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(field, ",") {
			coding = strings.ToLower(strings.TrimSpace(coding))
			if coding != "" && coding != identityCoding {
				return coding
			}
		}
	}
	return identityCoding
}

func overLimit(length, limit int64) error {
	if length >= 0 {
		return fmt.Errorf("%w: it has %d bytes, the limit is %d", wire.ErrTooLarge, length, limit)
	}
	return fmt.Errorf("%w: it has more than %d bytes", wire.ErrTooLarge, limit)
}

// CutShort is the refusal of a body that ended early, came too slowly, or is not the one that was signed.
func CutShort(err error) error {
	if errors.Is(err, wire.ErrSlowBody) || errors.Is(err, nodeauth.ErrProof) {
		return err
	}
	return fmt.Errorf("%w: the body ended early: %w", wire.ErrBadRequest, err)
}

// ReadJSON reads a small JSON body into v.
func ReadJSON(c *gin.Context, v any) error {
	body, err := ReadBody(c.Request, MaxSmallBody)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: the body is not the JSON of this route: %w", wire.ErrBadRequest, err)
	}
	return nil
}

// WithJSON makes a handler of one that takes the small JSON body of a request.
func WithJSON[B any](h func(c *gin.Context, body B) error) Handler {
	return func(c *gin.Context) error {
		var body B
		if err := ReadJSON(c, &body); err != nil {
			return err
		}
		return h(c, body)
	}
}

// ReadExact reads a small JSON body into v and returns its bytes. A field that v does not have is refused: its sender
// expects it to have an effect.
func ReadExact(c *gin.Context, v any) ([]byte, error) {
	body, err := ReadBody(c.Request, MaxSmallBody)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err = d.Decode(v)
	if err == nil && d.More() {
		err = errors.New("more data follows it")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the body is not the JSON of this route: %w", wire.ErrBadRequest, err)
	}
	return body, nil
}

// Number reads a number of the path. See [ParseNumber].
func Number(c *gin.Context, name string, highest uint64) (uint64, error) {
	return ParseNumber(name, c.Param(name), highest)
}

// ParseNumber reads a number that names something, from 0 to highest. A text that is not a number is a bad request. A
// number out of that range, or below zero, names nothing, so it is not found.
func ParseNumber(name, text string, highest uint64) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	_, signed := strconv.ParseInt(text, 10, 64)
	if errors.Is(err, strconv.ErrRange) || err != nil && signed == nil || n > highest {
		return 0, fmt.Errorf("%w: %s %s is out of range", wire.ErrNotFound, name, text)
	}
	if err != nil {
		return 0, fmt.Errorf("%w: %s %q is not a number", wire.ErrBadRequest, name, text)
	}
	return n, nil
}

// Hash reads the hash of the path.
func Hash(c *gin.Context) (h chain.Hash, err error) {
	if err := h.UnmarshalText([]byte(c.Param("hash"))); err != nil {
		return h, fmt.Errorf("%w: hash: %w", wire.ErrBadRequest, err)
	}
	return h, nil
}
