package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/masterfsm"
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

// withProject is a handler that acts for the project whose token the request carries.
func (m *master) withProject(h func(c *gin.Context, project masterfsm.Project) error) gin.HandlerFunc {
	return m.do(func(c *gin.Context) error {
		token, err := bearer(c.Request)
		if err != nil {
			return err
		}
		if m.admin.matches(token) || m.cluster.matches(token) {
			return fmt.Errorf("%w: records are appended and read with a project's token", errForbidden)
		}
		project, err := m.node.Project(c.Request.Context(), token)
		if err != nil {
			return err
		}
		return h(c, project)
	})
}

// withAnyToken is a handler for whoever has a token of the cluster: admin, cluster or any project's.
func (m *master) withAnyToken(h handler) gin.HandlerFunc {
	return m.do(func(c *gin.Context) error {
		token, err := bearer(c.Request)
		if err != nil {
			return err
		}
		if !m.admin.matches(token) && !m.cluster.matches(token) {
			if _, err := m.node.Project(c.Request.Context(), token); err != nil {
				return err
			}
		}
		return h(c)
	})
}

// withAdmin is a handler for the administrator. A token that opens a project is known and still not enough: 403.
func (m *master) withAdmin(h handler) gin.HandlerFunc {
	return m.do(func(c *gin.Context) error {
		token, err := bearer(c.Request)
		if err != nil {
			return err
		}
		if !m.admin.matches(token) {
			if _, err := m.node.Project(c.Request.Context(), token); err != nil {
				return err
			}
			return fmt.Errorf("%w: it takes the admin token", errForbidden)
		}
		return h(c)
	})
}
