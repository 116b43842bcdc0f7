package suite

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"time"
)

// dialTimeout bounds the set-up of a connection. All of them are on loopback.
const dialTimeout = 3 * time.Second

// socket is a connection that ends with a context.
type socket struct {
	net.Conn
	in     *bufio.Reader
	unhook func() bool
}

// dialSocket dials, with TLS unless trust is nil.
func dialSocket(ctx context.Context, addr string, trust *tls.Config) (*socket, error) {
	d := net.Dialer{Timeout: dialTimeout}
	dial := d.DialContext
	if trust != nil {
		dial = (&tls.Dialer{NetDialer: &d, Config: trust}).DialContext
	}
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: conn, in: bufio.NewReaderSize(conn, 32<<10)}
	s.unhook = context.AfterFunc(ctx, func() {
		// A deadline in the past ends reads and writes. The owner closes the connection.
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
	return s, nil
}

// close may be called twice.
func (s *socket) close() error {
	s.unhook()
	if err := s.Conn.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}
