package suite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"
)

// Errors of an answer that the generator cannot take. They break the connection.
var (
	errMalformed = errors.New("answer is not HTTP/1.1")
	errChunked   = errors.New("answer is chunked: the load generator reads answers with a Content-Length only, the handler has to set it")
	errNoLength  = errors.New("answer has no Content-Length: the load generator needs one to keep the connection")
	errTooLong   = errors.New("answer is too long")
)

// maxAnswer bounds the answers' bodies, bytes.
const maxAnswer = 16 << 20

// refusal is an answer that came whole and is not the one that was asked for. The connection goes on.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// httpClient is one client's connection to an HTTP server. One goroutine uses it.
type httpClient struct {
	addr  string                  // host:port
	next  func() []byte           // the next request whole, valid until the next call
	want  int                     // status
	check func(body []byte) error // of an answer with that status; nil for none
	body  []byte                  // of the last answer; its memory is used again
	*socket
}

func (c *httpClient) connect(ctx context.Context) error {
	s, err := dialSocket(ctx, c.addr)
	if err != nil {
		return err // the old socket, closed, stays: what is tried on it fails
	}
	c.socket = s
	return nil
}

func (c *httpClient) until(t time.Time) error { return c.SetDeadline(t) }

// request makes one request and takes its answer; the error is a *refusal where the server answered otherwise than wanted.
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

// answer reads one answer into c.body.
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

// headers reads to the empty line and gives the Content-Length, -1 where there is none.
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

// is compares a header's name with one in lower case.
func is(name []byte, lower string) bool {
	return len(name) == len(lower) && bytes.EqualFold(name, []byte(lower))
}
