package fakecluster

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Answer is an answer of a server that is faulty.
type Answer struct {
	Write func(io.Writer) error // writes to a connection, until that is closed or the answer is complete
	Slow  bool                  // it ends only when the caller gives up
}

// Hostile are the kinds of hostile answers that every call must survive: it ends in time, takes a bounded amount of
// memory, and is an error.
var Hostile = map[string]Answer{
	"a body without end": {func(w io.Writer) error {
		if _, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n"); err != nil {
			return err
		}
		return forever(w, bytes.Repeat([]byte("[{},{},{},{},"), 1000))
	}, false},
	"an error with a body without end": {func(w io.Writer) error {
		head := "HTTP/1.1 409 Conflict\r\nContent-Type: application/problem+json\r\n\r\n"
		if _, err := io.WriteString(w, head); err != nil {
			return err
		}
		return forever(w, bytes.Repeat([]byte(" "), 1000))
	}, false},
	"chunks without end": {func(w io.Writer) error {
		if _, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"); err != nil {
			return err
		}
		return forever(w, []byte("1\r\n1\r\n"))
	}, true},
	"headers without end": {func(w io.Writer) error {
		if _, err := io.WriteString(w, "HTTP/1.1 200 OK\r\n"); err != nil {
			return err
		}
		return forever(w, []byte("X-A: "+strings.Repeat("a", 1000)+"\r\n"))
	}, true},
	"early answers without end": {func(w io.Writer) error {
		return forever(w, []byte("HTTP/1.1 102 Processing\r\n\r\n"))
	}, true},
	"a byte now and then": {func(w io.Writer) error {
		if _, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"); err != nil {
			return err
		}
		for {
			if _, err := w.Write([]byte("1")); err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond)
		}
	}, true},
	"a huge Content-Length": {func(w io.Writer) error {
		_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 9000000000000000000\r\n\r\n")
		return err
	}, false},
	"a large Content-Length": {func(w io.Writer) error {
		_, err := io.WriteString(w, "HTTP/1.1 200 OK\r\nContent-Length: 120000000\r\n\r\n[")
		return err
	}, true},
	"deeply nested JSON": {whole("", "[", 900_000, ""), false},
	"a list of many":     {whole(`{"report":{"findings":[`, "{},", 330_000, `{}]}}`), false},
	"a longer list":      {whole(`{"report":{"findings":[`, "{},", 5_000_000, `{}]}}`), false},
	"zeros":              {whole("", "\x00", 900_000, ""), false},
	"ones":               {whole("", "\xff", 900_000, ""), false},
	"a compressed body": {func(w io.Writer) error { // it must not be decompressed
		head := "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n"
		_, err := io.WriteString(w, head+"\x1f\x8b\x08\x00")
		return err
	}, false},
	"no answer":    {func(io.Writer) error { return nil }, true},
	"not HTTP":     {func(w io.Writer) error { return forever(w, []byte("SSH-2.0-x\r\n")) }, true},
	"nothing else": {whole("", "", 0, ""), false},
}

func forever(w io.Writer, data []byte) error {
	for {
		if _, err := w.Write(data); err != nil {
			return err
		}
	}
}

// whole is an answer of JSON with a body of many equal parts.
func whole(begin, part string, parts int, end string) func(io.Writer) error {
	answer := sync.OnceValue(func() []byte {
		body := begin + strings.Repeat(part, parts) + end
		return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			len(body), body)
	})
	return func(w io.Writer) error {
		_, err := w.Write(answer())
		return err
	}
}

// ServeHostile starts a server that reads the head of each request and sends that answer. It returns the server's URL
// and a function that stops it.
func ServeHostile(answer Answer) (url string, stop func()) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				if _, err := conn.Read(make([]byte, 64<<10)); err != nil {
					return
				}
				if answer.Write(conn) == nil && answer.Slow {
					_, _ = io.Copy(io.Discard, conn)
				}
			}()
		}
	}()
	return "http://" + listener.Addr().String(), func() { _ = listener.Close() }
}
