package masterapi

import (
	"math"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/chainstore/chainstore/httpapi"
	"github.com/chainstore/chainstore/masternode"
	"github.com/chainstore/chainstore/wire"
)

// projectRoutes are the routes of projects, their tokens and quotas.
func (m *master) projectRoutes() {
	m.GET("/v1/me", m.withCaller(m.me))
	m.POST("/v1/projects", m.Do(m.createProject)) // access depends on Options.OpenRegistration
	m.GET("/v1/projects", m.withAnyToken(m.projects))
	m.GET("/v1/projects/:project", m.withAnyToken(m.project))
	m.PATCH("/v1/projects/:project", m.withRole(wire.RoleAdmin, m.changeProject))
	m.GET("/v1/projects/:project/tokens", m.withRole(wire.RoleAuditor, m.tokens))
	m.POST("/v1/projects/:project/tokens", m.withRole(wire.RoleAdmin, m.createToken))
	m.DELETE("/v1/projects/:project/tokens/:id", m.withRole(wire.RoleAdmin, m.revokeToken))
}

func (m *master) me(c *gin.Context, from caller) error {
	me := wire.Me{Role: from.role, OpenRegistration: m.OpenRegistration}
	if from.identity != nil {
		me.Identity = wireIdentity(from.identity)
		if from.hasGrants() {
			if access, err := m.projectOf(c.Request, from); err == nil { // no project is chosen otherwise
				from.access = access
			}
		}
	}
	if from.access.Project.ID != 0 {
		project := masternode.WireProject(&from.access.Project)
		me.Project, me.Rights = &project, masternode.WireRights(from.access.Rights)
	}
	if from.admin.ID != 0 {
		admin := masternode.WireAdmin(&from.admin, false)
		me.Admin = &admin
	}
	httpapi.AnswerJSON(c, http.StatusOK, me)
	return nil
}

func (m *master) createProject(c *gin.Context) error {
	mayName, err := m.mayCreate(c)
	if err != nil {
		return err
	}
	var p wire.NewProject
	body, err := httpapi.ReadExact(c, &p)
	if err != nil {
		return err
	}
	if err := mayName(p.Name); err != nil {
		return err
	}
	return m.leader.do(c, body, func() error {
		return httpapi.Answer(c, http.StatusCreated)(m.node.CreateProject(c.Request.Context(), p))
	})
}

// projects is GET /v1/projects?cursor=&limit=, in the order of ids. A cursor is the id before the first of the page.
func (m *master) projects(c *gin.Context) error {
	after, err := queryNumber(c, "cursor", 0, 0, math.MaxUint32)
	if err != nil {
		return err
	}
	most, err := queryNumber(c, "limit", wire.DefaultPage, 1, wire.MaxProjectsPage)
	if err != nil {
		return err
	}
	limit := int(most)
	// One more than the limit shows whether there is another page.
	list, err := m.node.Projects(c.Request.Context(), uint32(after), limit+1)
	if err != nil {
		return err
	}
	page := wire.Projects{Projects: list[:min(limit, len(list))]}
	if len(list) > limit {
		page.Next = strconv.FormatUint(uint64(list[limit-1].ID), 10)
	}
	httpapi.AnswerJSON(c, http.StatusOK, page)
	return nil
}

func (m *master) project(c *gin.Context) error {
	return httpapi.Answer(c, http.StatusOK)(m.node.Project(c.Request.Context(), c.Param("project")))
}

func (m *master) changeProject(c *gin.Context) error {
	var change wire.ProjectChange
	body, err := httpapi.ReadExact(c, &change)
	if err != nil {
		return err
	}
	return m.leader.do(c, body, func() error {
		return httpapi.Answer(c, http.StatusOK)(
			m.node.ChangeProject(c.Request.Context(), c.Param("project"), change))
	})
}

func (m *master) tokens(c *gin.Context) error {
	return httpapi.Answer(c, http.StatusOK)(m.node.Tokens(c.Request.Context(), c.Param("project")))
}

func (m *master) createToken(c *gin.Context) error {
	var t wire.NewToken
	body, err := httpapi.ReadExact(c, &t)
	if err != nil {
		return err
	}
	return m.leader.do(c, body, func() error {
		return httpapi.Answer(c, http.StatusCreated)(
			m.node.CreateToken(c.Request.Context(), c.Param("project"), t))
	})
}

func (m *master) revokeToken(c *gin.Context) error {
	id, err := httpapi.Number(c, "id", math.MaxUint32)
	if err != nil {
		return err
	}
	return m.leader.do(c, nil, func() error {
		return noContent(c, m.node.RevokeToken(c.Request.Context(), c.Param("project"), uint32(id)))
	})
}
