package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/chainstore/chainstore/wire"
)

// drainBytes is how much of a body that is refused is read before the 413 or 415 goes out, so that the client, which
// is still sending, gets to read it.
const drainBytes = 2 << 20

// identityCoding is the content coding of a body as it is: the only one that is taken.
const identityCoding = "identity"

// readBody reads a body of at most limit bytes into memory of its own. The error wraps wire.ErrTooLarge where it is
// longer, and wire.ErrEncoding where it is in another content coding than identity: its bytes must not be taken for the
// content.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if coding := contentCoding(r.Header); coding != identityCoding {
		return nil, refuseBody(r.Body,
			fmt.Errorf("%w: the body's Content-Encoding is %q: send it uncompressed, without that header",
				wire.ErrEncoding, coding))
	}
	if r.ContentLength > limit {
		return nil, overLimit(r.Body, r.ContentLength, limit)
	}
	if r.ContentLength >= 0 {
		body := make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, cutShort(err)
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, cutShort(err)
	}
	if int64(len(body)) > limit {
		return nil, overLimit(r.Body, -1, limit)
	}
	return body, nil
}

// contentCoding is the first content coding of a body that is not identity (RFC 9110, section 8.4): the field is a
// list, may come several times, and its values are case-insensitive.
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

func overLimit(body io.Reader, length, limit int64) error {
	err := fmt.Errorf("%w: it has more than %d bytes", wire.ErrTooLarge, limit)
	if length >= 0 {
		err = fmt.Errorf("%w: it has %d bytes, the limit is %d", wire.ErrTooLarge, length, limit)
	}
	return refuseBody(body, err)
}

// refuseBody drains a body that is refused, and returns why it is.
func refuseBody(body io.Reader, why error) error {
	if _, err := io.CopyN(io.Discard, body, drainBytes); err != nil && !errors.Is(err, io.EOF) {
		return errors.Join(why, err)
	}
	return why
}

func cutShort(err error) error {
	return fmt.Errorf("%w: the body ended before its time: %w", wire.ErrBadRequest, err)
}
