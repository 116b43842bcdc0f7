package client

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"

	"github.com/chainstore/chainstore/httpapi/wire"
)

// Cluster reads the cluster's status table.
func (c *Client) Cluster(ctx context.Context) (wire.Cluster, error) {
	var table wire.Cluster
	err := c.read(ctx, "/v1/cluster", maxMedium, func(a *answer) error {
		table = wire.Cluster{}
		return a.decode(&table)
	})
	if err != nil {
		return wire.Cluster{}, err
	}
	return table, nil
}

// CreateProject makes a project; it needs the admin token. Its answer is the only place where the project's token is
// ever shown, so the client does not try again after a try that may have been carried out: [ErrNameTaken] on a second call
// then tells that it was, and that the token is lost.
func (c *Client) CreateProject(ctx context.Context, p wire.NewProject) (wire.CreatedProject, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return wire.CreatedProject{}, err
	}
	q := c.newQuery(http.MethodPost, "/v1/projects", maxSmall)
	q.header["Content-Type"] = typeJSON
	q.body, q.once = body, true
	var created wire.CreatedProject
	if _, err := c.do(ctx, q, func(a *answer) error { return a.decode(&created) }); err != nil {
		return wire.CreatedProject{}, err
	}
	return created, nil
}

// RenewToken gives a project, named by its name or id, a new token in the place of its old ones; it needs the admin token. Its answer is
// the only place where the token is ever shown. To call it again makes another.
func (c *Client) RenewToken(ctx context.Context, nameOrID string) (wire.CreatedProject, error) {
	q := c.newQuery(http.MethodPost, "/v1/projects/"+url.PathEscape(nameOrID)+"/token", maxSmall)
	q.once = true
	var renewed wire.CreatedProject
	if _, err := c.do(ctx, q, func(a *answer) error { return a.decode(&renewed) }); err != nil {
		return wire.CreatedProject{}, err
	}
	return renewed, nil
}
