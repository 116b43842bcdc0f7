package httpapi

import (
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/internal/profile"
	"github.com/chainstore/chainstore/wire"
)

// OwnProfile is the handler of a profile of this process, of the routes between the nodes.
func (e *Engine) OwnProfile() gin.HandlerFunc {
	return e.Do(WithJSON(func(c *gin.Context, q wire.ProfileRequest) error {
		if q.Node != "" {
			return fmt.Errorf("%w: this route profiles only the node that is asked", wire.ErrBadRequest)
		}
		return e.AnswerProfile(c, q)
	}))
}

// AnswerProfile answers with a profile of this process.
func (e *Engine) AnswerProfile(c *gin.Context, q wire.ProfileRequest) error {
	data, err := profile.Take(c.Request.Context(), q)
	if err != nil {
		return err
	}
	e.Log.Info("a profile of this process was taken", "kind", q.Kind, "seconds", q.Seconds)
	SendProfile(c, data)
	return nil
}

// SendProfile answers with a profile.
func SendProfile(c *gin.Context, data []byte) {
	c.Data(http.StatusOK, wire.TypeOctets, data)
}
