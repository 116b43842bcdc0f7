package httpapi

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/wire"
)

// Secure returns a listener for [Serve] whose connections have TLS.
func Secure(l net.Listener, store *certs.Store) net.Listener {
	return tls.NewListener(l, store.Server("http/1.1"))
}

// SecureUsers returns a listener for [ServeUsers] whose connections have TLS.
func SecureUsers(l net.Listener, store *certs.Store) net.Listener {
	return tls.NewListener(l, store.Server("h2", "http/1.1"))
}

// Peer returns the node that sends a request, by its certificate. ok is false for a user, and without TLS.
func Peer(c *gin.Context) (id certs.Identity, ok bool) { return certs.PeerOf(c.Request.TLS) }

// Only is middleware that refuses nodes whose role is another one, by their certificates. secured says whether nodes
// have certificates: otherwise all may pass.
func (e *Engine) Only(secured bool, roles ...string) gin.HandlerFunc {
	return func(c *gin.Context) {
		if !secured {
			return
		}
		switch id, ok := Peer(c); {
		case !ok:
			e.Fail(c, fmt.Errorf("%w: this route is for nodes with a certificate: %s", wire.ErrForbidden,
				strings.Join(roles, ", ")))
		case !slices.Contains(roles, id.Role):
			e.Fail(c, fmt.Errorf("%w: this route is for nodes with the role %s, and the certificate is that of %s",
				wire.ErrForbidden, strings.Join(roles, " or "), id))
		}
	}
}
