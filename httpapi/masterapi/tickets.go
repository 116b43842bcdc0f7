package masterapi

import (
	"math"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// ticketRoutes adds the routes of join tickets.
func (m *master) ticketRoutes() {
	m.GET("/v1/join-tickets", m.withRole(wire.RoleAuditor, m.listTickets))
	m.POST("/v1/join-tickets", m.withRole(wire.RoleAdmin, m.createTicket))
	m.DELETE("/v1/join-tickets/:id", m.withRole(wire.RoleAdmin, m.revokeTicket))
}

func (m *master) listTickets(c *gin.Context) error {
	return httpapi.Answer(c, http.StatusOK)(m.node.Tickets(c.Request.Context()))
}

func (m *master) createTicket(c *gin.Context) error {
	var t wire.NewJoinTicket
	body, err := httpapi.ReadExact(c, &t)
	if err != nil {
		return err
	}
	return m.leader.do(c, body, func() error {
		from, err := m.identify(c.Request)
		if err != nil {
			return err
		}
		return httpapi.Answer(c, http.StatusCreated)(m.node.CreateTicket(c.Request.Context(), t, from.admin.Name))
	})
}

func (m *master) revokeTicket(c *gin.Context) error {
	id, err := httpapi.Number(c, "id", math.MaxUint32)
	if err != nil {
		return err
	}
	return m.leader.do(c, nil, func() error {
		return noContent(c, m.node.RevokeTicket(c.Request.Context(), uint32(id)))
	})
}
