package masterapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/wire"
)

// clusterRoutes adds the routes of the cluster's status, of its integrity, and of the administration of its nodes.
func (m *master) clusterRoutes() {
	m.GET("/v1/cluster", m.withCaller(m.clusterStatus))
	m.GET("/v1/cluster/integrity", m.withAnyToken(m.integrity))
	m.POST("/v1/cluster/integrity/confirm-lost", m.withRole(wire.RoleAdmin, m.confirmLost))
	m.POST("/v1/storages/:id/check", m.withRole(wire.RoleOperator, m.checkStorage))
	m.DELETE("/v1/storages/:id", m.withRole(wire.RoleOperator, m.remove(m.node.RemoveStorage)))
	m.DELETE("/v1/miners/:id", m.withRole(wire.RoleOperator, m.remove(m.node.RemoveMiner)))
	m.POST("/v1/waiting-workers/:id/approve", m.withRole(wire.RoleAdmin, m.approveWorker))
	m.DELETE("/v1/waiting-workers/:id", m.withRole(wire.RoleAdmin, m.refuseWorker))
	m.DELETE("/v1/masters/:id", m.withRole(wire.RoleOperator, m.remove(m.node.RemoveMaster)))
	m.POST("/v1/leader/transfer", m.withRole(wire.RoleOperator, m.transferLeadership))
	m.POST("/v1/time", m.withRole(wire.RoleAdmin, m.setTime))
	m.PATCH("/v1/settings", m.withRole(wire.RoleOperator, m.changeSettings))
	m.POST("/v1/tls", m.withRole(wire.RoleAdmin, m.setTLS))
	m.POST("/v1/profiles", m.withRole(wire.RoleOperator, httpapi.WithJSON(m.takeProfile)))
}

// setTLS changes the step of the move to TLS.
func (m *master) setTLS(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, httpapi.MaxSmallBody)
	if err != nil {
		return err
	}
	var change wire.TLSChange
	if err := json.Unmarshal(body, &change); err != nil || change.Step == wire.TLSByFlags {
		return fmt.Errorf(`%w: the body must be {"step": "accept", "prefer" or "require"}`, wire.ErrBadRequest)
	}
	return m.leader.do(c, body, func() error {
		return httpapi.Answer(c, http.StatusOK)(m.node.SetTLS(c.Request.Context(), change))
	})
}

// profileWait is how long another node may take for a profile in addition to the time that the profile takes.
const profileWait = 10 * time.Second

// takeProfile answers with a profile of the process of any node. Another node is asked from here, so that the admin
// token stays on this master.
func (m *master) takeProfile(c *gin.Context, q wire.ProfileRequest) error {
	if err := q.Check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), time.Duration(q.Seconds)*time.Second+profileWait)
	defer cancel()
	node, self, err := m.node.FindNode(ctx, q.Node)
	if err != nil {
		return err
	}
	q.Node = ""
	if self {
		return m.AnswerProfile(c, q)
	}
	data, err := m.profile(ctx, node, q)
	switch {
	case errors.Is(err, wire.ErrProfiling):
		return fmt.Errorf("%w at %s", wire.ErrProfiling, node.URL)
	case errors.Is(err, wire.ErrNoSuchRoute):
		return fmt.Errorf("%w: the node at %s is of an older version, without profiles", wire.ErrUnavailable, node.URL)
	case err != nil:
		return fmt.Errorf("%w: %w", wire.ErrUnavailable, err)
	}
	httpapi.SendProfile(c, data)
	return nil
}

// clusterStatus answers with the status. Only administrators see which secrets and at-rest keys the nodes use, and
// which workers wait.
func (m *master) clusterStatus(c *gin.Context, from caller) error {
	status := m.node.Cluster(c.Request.Context())
	if !from.may(wire.RoleAuditor) {
		hideSecrets(&status)
	}
	httpapi.AnswerJSON(c, http.StatusOK, status)
	return nil
}

// hideSecrets removes what is said about the secrets and the at-rest keys of the nodes, about workers that wait for
// approval, and about the failures of the OIDC issuer.
func hideSecrets(status *wire.Cluster) {
	status.Waiting = nil
	all := len(status.NoticesCoded)
	status.NoticesCoded = slices.DeleteFunc(status.NoticesCoded, func(m wire.Message) bool {
		switch m.Code {
		case wire.CodeSecretFile, wire.CodeSecretOld, wire.CodeSecretRefused, wire.CodeIssuer, wire.CodeWorkersWait,
			wire.CodeAtRestPlain:
			return true
		}
		return false
	})
	if len(status.NoticesCoded) < all {
		status.Notices = wire.Texts(status.NoticesCoded)
	}
	for i := range status.Masters {
		status.Masters[i].Secrets, status.Masters[i].AtRest = nil, nil
	}
	for i := range status.Storages {
		status.Storages[i].Secrets = nil
	}
	for i := range status.Miners {
		status.Miners[i].Secrets = nil
	}
}

func (m *master) integrity(c *gin.Context) error {
	httpapi.AnswerJSON(c, http.StatusOK, m.node.Integrity(c.Request.Context()))
	return nil
}

// checkStorage makes a check of the node due at once. The integrity shows its progress.
func (m *master) checkStorage(c *gin.Context) error {
	return m.leader.do(c, nil, func() error {
		return httpapi.Answer(c, http.StatusAccepted)(m.node.CheckStorage(c.Request.Context(), c.Param("id")))
	})
}

func (m *master) confirmLost(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, httpapi.MaxSmallBody)
	if err != nil {
		return err
	}
	var lost wire.LostBlock
	if err := json.Unmarshal(body, &lost); err != nil || lost.Block == nil {
		return fmt.Errorf(`%w: the body must be {"block": number}`, wire.ErrBadRequest)
	}
	return m.leader.do(c, body, func() error {
		return httpapi.Answer(c, http.StatusOK)(m.node.ConfirmLost(c.Request.Context(), *lost.Block))
	})
}

// remove removes the node of the path. With ?force=true it removes one that the group needs.
func (m *master) remove(remove func(ctx context.Context, id string, force bool) error) httpapi.Handler {
	return func(c *gin.Context) error {
		force := c.Query("force")
		if force != "" && force != "true" && force != "false" {
			return fmt.Errorf("%w: force is true or false, not %q", wire.ErrBadRequest, force)
		}
		return m.leader.do(c, nil, func() error {
			return noContent(c, remove(c.Request.Context(), c.Param("id"), force == "true"))
		})
	}
}

func (m *master) transferLeadership(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, httpapi.MaxSmallBody)
	if err != nil {
		return err
	}
	var to wire.Transfer
	if len(body) > 0 {
		if err := json.Unmarshal(body, &to); err != nil {
			return fmt.Errorf(`%w: the body is empty or {"to": "a master's id or URL"}: %w`, wire.ErrBadRequest, err)
		}
	}
	return m.leader.do(c, body, func() error {
		leader, err := m.node.TransferLeadership(c.Request.Context(), to.To)
		return httpapi.Answer(c, http.StatusOK)(wire.Transferred{Leader: leader}, err)
	})
}

func (m *master) setTime(c *gin.Context) error {
	body, err := httpapi.ReadBody(c.Request, httpapi.MaxSmallBody)
	if err != nil {
		return err
	}
	var to struct {
		Time  *uint64 `json:"time"`
		Force bool    `json:"force"`
	}
	if err := json.Unmarshal(body, &to); err != nil || to.Time == nil {
		return fmt.Errorf(`%w: the body must be {"time": unix milliseconds}, if need be with "force": true`,
			wire.ErrBadRequest)
	}
	return m.leader.do(c, body, func() error {
		return httpapi.Answer(c, http.StatusOK)(m.node.SetTime(c.Request.Context(), *to.Time, to.Force))
	})
}

func (m *master) changeSettings(c *gin.Context) error {
	var change wire.SettingsChange
	body, err := httpapi.ReadExact(c, &change)
	if err != nil {
		return err
	}
	return m.leader.do(c, body, func() error {
		if change.ApproveWorkers != nil {
			from, err := m.identify(c.Request)
			if err != nil {
				return err
			}
			if err := from.permit(wire.RoleAdmin); err != nil {
				return err
			}
		}
		return httpapi.Answer(c, http.StatusOK)(m.node.ChangeSettings(c.Request.Context(), change))
	})
}

// approveWorker lets a waiting worker in.
func (m *master) approveWorker(c *gin.Context) error {
	return m.leader.do(c, nil, func() error {
		return httpapi.Answer(c, http.StatusOK)(m.node.ApproveWorker(c.Request.Context(), c.Param("id")))
	})
}

// refuseWorker refuses a waiting worker permanently.
func (m *master) refuseWorker(c *gin.Context) error {
	return m.leader.do(c, nil, func() error {
		return noContent(c, m.node.RefuseWorker(c.Request.Context(), c.Param("id")))
	})
}
