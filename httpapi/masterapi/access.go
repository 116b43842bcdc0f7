package masterapi

import (
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/internal/certs"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// caller is the owner of a request's token.
type caller struct {
	role   string           // wire.RoleAdmin, RoleCluster or RoleProject
	access masterfsm.Access // where it is RoleProject
}

// identify finds the owner of a request's token. No other code compares a user's token with the known ones.
func (m *master) identify(r *http.Request) (caller, error) {
	token, err := httpapi.Bearer(r)
	switch {
	case err != nil:
		return caller{}, err
	case m.admin.Matches(token):
		m.provenNode(r)
		return caller{role: wire.RoleAdmin}, nil
	case m.cluster.Matches(token):
		if _, ok := certs.PeerOf(r.TLS); ok || !m.secured {
			m.provenNode(r)
		}
		return caller{role: wire.RoleCluster}, nil
	}
	access, err := m.access(r, token)
	return caller{role: wire.RoleProject, access: access}, err
}

// provenNode records that a request has the token of a node or of the administrator. Users cannot take the bytes from
// which its body counts.
func (m *master) provenNode(r *http.Request) {
	httpapi.Proven(r, httpapi.Node)
	httpapi.CountAs(r, m.masters, httpapi.AddressOf(r))
}

const (
	// An address may send so many unknown tokens per second, and so many at once, about which the leader is asked.
	unknownTokens      = 20
	unknownTokensBurst = 200
)

// access returns what a project's token permits, for a request that has it.
func (m *master) access(r *http.Request, token string) (masterfsm.Access, error) {
	access, err := m.node.Access(r.Context(), token, func() error { return m.take(m.unknown, r) })
	if err == nil {
		httpapi.Proven(r, httpapi.User)
	}
	return access, err
}

// withCaller is a handler that takes any token of the cluster: admin, cluster or a project's.
func (m *master) withCaller(h func(c *gin.Context, from caller) error) gin.HandlerFunc {
	return m.Do(func(c *gin.Context) error {
		from, err := m.identify(c.Request)
		if err != nil {
			return err
		}
		if from.role == wire.RoleProject {
			httpapi.CountAs(c.Request, m.users, strconv.FormatUint(uint64(from.access.Project.ID), 10))
		}
		return h(c, from)
	})
}

// withAnyToken is withCaller for an answer that is the same for all callers.
func (m *master) withAnyToken(h httpapi.Handler) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, _ caller) error { return h(c) })
}

// withReader is a handler that reads records with a project's token. masternode.Node.MayRead decides for each record
// whether that token may read it.
func (m *master) withReader(h func(c *gin.Context, reader masterfsm.Access) error) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, from caller) error {
		if from.role != wire.RoleProject {
			return fmt.Errorf("%w: records are appended and read with a project's token", wire.ErrForbidden)
		}
		return h(c, from.access)
	})
}

// withAppender is a handler that appends to the project of the request's token, if the token has the right to append.
func (m *master) withAppender(h func(c *gin.Context, project masterfsm.Project) error) gin.HandlerFunc {
	return m.withReader(func(c *gin.Context, a masterfsm.Access) error {
		if err := masternode.MayAppend(a); err != nil {
			return err
		}
		return h(c, a.Project)
	})
}

// withAdmin is a handler for the administrator. Any other known token gets a 403.
func (m *master) withAdmin(h httpapi.Handler) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, from caller) error {
		if from.role != wire.RoleAdmin {
			return fmt.Errorf("%w: the admin token is needed", wire.ErrForbidden)
		}
		return h(c)
	})
}

// mayCreate refuses a request that may not create projects. The administrator may, and anyone where registration is
// open; a token in the request must be a known one. It returns a check of the project's name: only the administrator
// may give a project the name of the legacy project.
func (m *master) mayCreate(r *http.Request) (mayName func(name string) error, err error) {
	var from caller
	if r.Header.Get("Authorization") == "" {
		if err := m.take(m.open, r); err != nil {
			return nil, err
		}
	}
	if !m.OpenRegistration || r.Header.Get("Authorization") != "" {
		if from, err = m.identify(r); err != nil {
			return nil, err
		}
		if from.role != wire.RoleAdmin && !m.OpenRegistration {
			return nil, fmt.Errorf("%w: the admin token is needed", wire.ErrForbidden)
		}
	}
	return func(name string) error {
		if m.OriginalAPI && name == masternode.LegacyProject && from.role != wire.RoleAdmin {
			return fmt.Errorf("%w: %q is reserved for the original's routes", wire.ErrNameTaken, name)
		}
		return nil
	}, nil
}
