package masterapi

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masterfsm"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// caller is who a request comes from, by its token.
type caller struct {
	role   string           // wire.RoleAdmin, RoleCluster or RoleProject
	access masterfsm.Access // where it is RoleProject
}

// identify finds out whose token a request carries. It is the one place where a user's token is held against those that are known.
func (m *master) identify(r *http.Request) (caller, error) {
	token, err := httpapi.Bearer(r)
	switch {
	case err != nil:
		return caller{}, err
	case m.admin.Matches(token):
		return caller{role: wire.RoleAdmin}, nil
	case m.cluster.Matches(token):
		return caller{role: wire.RoleCluster}, nil
	}
	access, err := m.node.Access(r.Context(), token)
	return caller{role: wire.RoleProject, access: access}, err
}

// withCaller is a handler for whoever has a token of the cluster: admin, cluster or any project's.
func (m *master) withCaller(h func(c *gin.Context, who caller) error) gin.HandlerFunc {
	return m.Do(func(c *gin.Context) error {
		who, err := m.identify(c.Request)
		if err != nil {
			return err
		}
		return h(c, who)
	})
}

// withAnyToken is withCaller for what is the same for all of them.
func (m *master) withAnyToken(h httpapi.Handler) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, _ caller) error { return h(c) })
}

// withReader is a handler that reads records for whoever has a project's token. Which records that may read masternode.Node.MayRead says of
// each.
func (m *master) withReader(h func(c *gin.Context, reader masterfsm.Access) error) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, who caller) error {
		if who.role != wire.RoleProject {
			return fmt.Errorf("%w: records are appended and read with a project's token", wire.ErrForbidden)
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
func (m *master) withAdmin(h httpapi.Handler) gin.HandlerFunc {
	return m.withCaller(func(c *gin.Context, who caller) error {
		if who.role != wire.RoleAdmin {
			return fmt.Errorf("%w: the admin token is needed", wire.ErrForbidden)
		}
		return h(c)
	})
}

// mayCreate decides who may create projects: the administrator, and where registration is open everyone, except that a token that
// is sent must be a known one. It returns which names the caller may give: that of the legacy project is for the administrator.
func (m *master) mayCreate(r *http.Request) (mayName func(name string) error, err error) {
	var who caller
	if !m.OpenRegistration || r.Header.Get("Authorization") != "" {
		if who, err = m.identify(r); err != nil {
			return nil, err
		}
		if who.role != wire.RoleAdmin && !m.OpenRegistration {
			return nil, fmt.Errorf("%w: the admin token is needed", wire.ErrForbidden)
		}
	}
	return func(name string) error {
		if m.OriginalAPI && name == masternode.LegacyProject && who.role != wire.RoleAdmin {
			return fmt.Errorf("%w: %q is reserved for the original's routes", wire.ErrNameTaken, name)
		}
		return nil
	}, nil
}
