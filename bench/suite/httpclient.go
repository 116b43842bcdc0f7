package suite

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Errors of a response that the load generator does not read. They break the connection.
var (
	errMalformed = errors.New("answer is not HTTP/1.1")
	errChunked   = errors.New("answer is chunked: the load generator needs a Content-Length")
	errNoLength  = errors.New("answer has no Content-Length: the load generator needs one to keep the connection")
	errTooLong   = errors.New("answer is too long")
)

// maxAnswer bounds the body of a response, in bytes.
const maxAnswer = 16 << 20

// refusal is a complete response other than the wanted one. The connection can be used further.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// httpClient is one client's connection to an HTTP server. One goroutine uses it.
type httpClient struct {
	addr  string                  // host:port
	trust *tls.Config             // nil for plain text
	next  func() []byte           // the next complete request, valid until the next call
	want  int                     // status
	check func(body []byte) error // of a response with that status; nil for none
	body  []byte                  // of the last response; its memory is reused
	*socket
}

func (c *httpClient) connect(ctx context.Context) error {
	s, err := dialSocket(ctx, c.addr, c.trust)
	if err != nil {
		return err // the closed socket stays, and requests on it fail
	}
	c.socket = s
	return nil
}

func (c *httpClient) until(t time.Time) error { return c.SetDeadline(t) }

// request makes one request and reads its response. The error is a *refusal if the response is not the wanted one.
func (c *httpClient) request() error {
	if _, err := c.Write(c.next()); err != nil {
		return err
	}
	status, err := c.answer()
	if err != nil {
		return err
	}
	if status != c.want {
		return &refusal{fmt.Sprintf("status %d, wanted %d: %.300s", status, c.want, c.body)}
	}
	if c.check != nil {
		if err := c.check(c.body); err != nil {
			return &refusal{err.Error()}
		}
	}
	return nil
}

// answer reads one response into c.body.
func (c *httpClient) answer() (status int, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	// HTTP/1.1 201 Created
	if len(line) < 13 || string(line[:9]) != "HTTP/1.1 " {
		return 0, fmt.Errorf("%w: it begins with %.40q", errMalformed, line)
	}
	status, err = strconv.Atoi(string(line[9:12]))
	if err != nil || status < 200 {
		return 0, fmt.Errorf("%w: status line %.40q", errMalformed, line)
	}
	length, err := c.headers()
	if err != nil {
		return 0, fmt.Errorf("status %d: %w", status, err)
	}
	if length < 0 {
		if status != 204 && status != 304 {
			return 0, fmt.Errorf("status %d: %w", status, errNoLength)
		}
		length = 0
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	c.body = c.body[:length]
	if _, err := io.ReadFull(c.in, c.body); err != nil {
		return 0, fmt.Errorf("body cut short: %w", err)
	}
	return status, nil
}

// headers reads to the empty line and returns the Content-Length, -1 if there is none.
func (c *httpClient) headers() (length int, err error) {
	length = -1
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("headers cut short: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			return length, nil
		}
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok {
			return 0, fmt.Errorf("%w: header line %.40q", errMalformed, line)
		}
		switch {
		case is(name, "content-length"):
			length, err = strconv.Atoi(string(bytes.TrimSpace(value)))
			if err != nil || length < 0 {
				return 0, fmt.Errorf("%w: Content-Length %.40q", errMalformed, value)
			}
			if length > maxAnswer {
				return 0, fmt.Errorf("%w: %d bytes, the limit is %d", errTooLong, length, maxAnswer)
			}
		case is(name, "transfer-encoding"):
			return 0, errChunked
		}
	}
}

// is reports whether a header's name is the given one, which is in lower case.
func is(name []byte, lower string) bool {
	return len(name) == len(lower) && bytes.EqualFold(name, []byte(lower))
}
