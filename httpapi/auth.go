package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// secret is a token that is compared, never shown: its SHA-256. The zero secret matches nothing.
type secret struct {
	hash [sha256.Size]byte
	set  bool
}

func newSecret(token string) secret {
	return secret{hash: sha256.Sum256([]byte(token)), set: token != ""}
}

// matches compares in constant time.
func (s secret) matches(token string) bool {
	hash := sha256.Sum256([]byte(token))
	return s.set && subtle.ConstantTimeCompare(s.hash[:], hash[:]) == 1
}

// bearer is the token of a request, from its Authorization header alone: a query string may be logged on its way.
func bearer(r *http.Request) (string, error) {
	header := r.Header.Get("Authorization")
	if header == "" {
		return "", errUnauthorized
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", fmt.Errorf("%w, and nothing else in it", errUnauthorized)
	}
	return strings.TrimSpace(token), nil
}

// requires lets requests with one secret in: those between the nodes.
func (e *engine) requires(s secret) gin.HandlerFunc {
	return func(c *gin.Context) {
		token, err := bearer(c.Request)
		if err == nil && !s.matches(token) {
			err = fmt.Errorf("%w; the one that was sent is not the one that this route takes", errUnauthorized)
		}
		if err != nil {
			e.fail(c, err)
		}
	}
}

// caller is who a request comes from, by its token.
type caller struct {
	role   string           // wire.RoleAdmin, RoleCluster or RoleProject
	access masterfsm.Access // where it is RoleProject
}

// identify finds out whose token a request carries. It is the one place where a user's token is held against those that are known.
func (m *master) identify(r *http.Request) (caller, error) {
	token, err := bearer(r)
	switch {
	case err != nil:
		return caller{}, err
	case m.admin.matches(token):
		return caller{role: wire.RoleAdmin}, nil
	case m.cluster.matches(token):
		return caller{role: wire.RoleCluster}, nil
	}
	access, err := m.node.Access(r.Context(), token)
	return caller{role: wire.RoleProject, access: access}, err
}

// withCaller is a handler for whoever has a token of the cluster: admin, cluster or any project's.
func (m *master) withCaller(h func(c *gin.Context, who caller) error) gin.HandlerFunc {
	return m.do(func(c *gin.Context) error {
		who, err := m.identify(c.Request)
		if err != nil {
			return err
		}
		return h(c, who)
	})
}

// withAnyToken is withCaller for what is the same for all of them.
func (m *master) withAnyToken(h handler) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, _ caller) error { return h(c) })
}

// withReader is a handler that reads records for whoever has a project's token. Which records that may read masternode.Node.MayRead says of
// each.
func (m *master) withReader(h func(c *gin.Context, reader masterfsm.Access) error) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, who caller) error {
		if who.role != wire.RoleProject {
			return fmt.Errorf("%w: records are appended and read with a project's token", errForbidden)
		}
		return h(c, who.access)
	})
}

// withAppender is a handler that appends to the project whose token the request carries, when that has the right to.
func (m *master) withAppender(h func(c *gin.Context, project masterfsm.Project) error) gin.HandlerFunc {
	return m.withReader(func(c *gin.Context, a masterfsm.Access) error {
		if err := masternode.MayAppend(a); err != nil {
			return err
		}
		return h(c, a.Project)
	})
}

// withAdmin is a handler for the administrator. Another token that is known is still not enough: 403.
func (m *master) withAdmin(h handler) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, who caller) error {
		if who.role != wire.RoleAdmin {
			return fmt.Errorf("%w: it takes the admin token", errForbidden)
		}
		return h(c)
	})
}

// registrant is who may create projects: the administrator, and where registration is open everybody, though who shows a token must show
// one that is known.
func (m *master) registrant(r *http.Request) (caller, error) {
	if m.OpenRegistration && r.Header.Get("Authorization") == "" {
		return caller{}, nil
	}
	who, err := m.identify(r)
	if err == nil && who.role != wire.RoleAdmin && !m.OpenRegistration {
		err = fmt.Errorf("%w: it takes the admin token", errForbidden)
	}
	return who, err
}

// mayName says whether a registrant may give a project that name: the legacy project's is not for everybody to take.
func (m *master) mayName(who caller, name string) error {
	if m.OriginalAPI && name == masternode.LegacyProject && who.role != wire.RoleAdmin {
		return fmt.Errorf("%w: %q is kept for the original's routes", masterfsm.ErrNameTaken, name)
	}
	return nil
}
