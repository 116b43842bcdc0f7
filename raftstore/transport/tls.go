package transport

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"
)

// TLS are the configurations of connections with TLS.
type TLS interface {
	RaftServer() *tls.Config            // the client must be a master
	RaftClient(host string) *tls.Config // the server must be a master on that host
}

// exporterLabel is the label of the key that both sides of a TLS connection export (RFC 8446 section 7.5).
const exporterLabel = "EXPORTER-chainstore-raft"

// secureTime is how much longer a hello, or a probe, may take with TLS: one more round trip, and signatures on both
// sides.
const secureTime = 1500 * time.Millisecond

// withTLS adds TLS to a connection, whose handshake is still to be done. dialled is "" for one that the other side
// opened.
func (s *Stream) withTLS(plain net.Conn, dialled string) (net.Conn, error) {
	if s.cfg.TLS == nil {
		return plain, nil
	}
	if dialled == "" {
		return tls.Server(plain, s.cfg.TLS.RaftServer()), nil
	}
	host, _, err := net.SplitHostPort(dialled)
	if err != nil {
		return nil, err
	}
	return tls.Client(plain, s.cfg.TLS.RaftClient(host)), nil
}

// secure does the handshake of TLS on a connection whose deadline is set. From then on the handshake of masters proves
// the cluster token with a key of this connection: one that is relayed between two connections with TLS fails.
func (c *conn) secure() error {
	secured, ok := c.Conn.(*tls.Conn)
	if !ok {
		return nil
	}
	if err := secured.Handshake(); err != nil {
		if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
			err = fmt.Errorf("%w: the other side does not speak TLS: start it with certificates (--tls-cert)", err)
		}
		return fmt.Errorf("%w: TLS: %w", errHandshake, err)
	}
	state := secured.ConnectionState()
	exported, err := state.ExportKeyingMaterial(exporterLabel, nil, sha256.Size)
	if err != nil {
		return fmt.Errorf("%w: TLS: %w", errHandshake, err)
	}
	c.keys = make([]Key, len(c.from))
	for i, k := range c.from {
		m := hmac.New(sha256.New, k)
		m.Write(exported)
		c.keys[i] = m.Sum(nil)
	}
	return nil
}

// extraTime is secureTime with TLS, and else 0.
func (s *Stream) extraTime() time.Duration {
	if s.cfg.TLS == nil {
		return 0
	}
	return secureTime
}
