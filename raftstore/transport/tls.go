package transport

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"net"
)

// TLS are the configurations of connections with TLS.
type TLS interface {
	RaftServer() *tls.Config            // the client must be a master
	RaftClient(host string) *tls.Config // the server must be a master on that host
}

// exporterLabel is the label of the key that both sides of a TLS connection export (RFC 8446 section 7.5).
const exporterLabel = "EXPORTER-chainstore-raft"

// secure adds TLS to a connection whose deadline is set. From then on the handshake of masters proves the cluster token
// with a key of this connection: one that is relayed between two connections with TLS fails.
func (s *Stream) secure(c *conn) error {
	if s.cfg.TLS == nil {
		return nil
	}
	var secured *tls.Conn
	if c.dialled == "" {
		secured = tls.Server(c.Conn, s.cfg.TLS.RaftServer())
	} else {
		host, _, err := net.SplitHostPort(c.dialled)
		if err != nil {
			return err
		}
		secured = tls.Client(c.Conn, s.cfg.TLS.RaftClient(host))
	}
	if err := secured.Handshake(); err != nil {
		return fmt.Errorf("%w: TLS: %w", errHandshake, err)
	}
	state := secured.ConnectionState()
	exported, err := state.ExportKeyingMaterial(exporterLabel, nil, sha256.Size)
	if err != nil {
		return fmt.Errorf("%w: TLS: %w", errHandshake, err)
	}
	m := hmac.New(sha256.New, c.key)
	m.Write(exported)
	c.key = m.Sum(nil)
	c.Conn = secured
	return nil
}
