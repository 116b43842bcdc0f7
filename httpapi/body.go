package httpapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
)

// drainBytes is how much of a body that is over its limit is read before the 413 goes out, so that the client, which is still
// sending, gets to read it.
const drainBytes = 2 << 20

// readBody reads a body of at most limit bytes into memory of its own. The error wraps errTooLarge where it is longer.
func readBody(r *http.Request, limit int64) ([]byte, error) {
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

func overLimit(body io.Reader, length, limit int64) error {
	_, drainErr := io.CopyN(io.Discard, body, drainBytes)
	err := fmt.Errorf("%w: it has more than %d bytes", errTooLarge, limit)
	if length >= 0 {
		err = fmt.Errorf("%w: it has %d bytes, the limit is %d", errTooLarge, length, limit)
	}
	if drainErr != nil && !errors.Is(drainErr, io.EOF) {
		return errors.Join(err, drainErr)
	}
	return err
}

func cutShort(err error) error {
	return fmt.Errorf("%w: the body ended before its time: %w", errBadRequest, err)
}
