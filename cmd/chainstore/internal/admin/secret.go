package admin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/secrets"
	"github.com/chainstore/chainstore/wire"
)

// NewSecret is the parent of the commands on the secrets of nodes.
func NewSecret() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "secret",
		Short: "Show and replace the secrets of the nodes",
		Long: `Show and replace the secrets that the nodes of a cluster prove to each other. A file of a secret has
one value a line: the current one, and while it is replaced "next" or "old" and another one. A node proves the first
and accepts both. It looks at the file every two seconds.`,
	}, newSecretNewCommand(), newSecretStatusCommand(), newSecretRotateCommand())
}

func newSecretNewCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "new",
		Short:             "Print a new strong value for a file of a secret",
		Example:           "  (umask 077; chainstore secret new > cluster.token)",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), secrets.New())
			return err
		},
	}
}

// secretRow is a secret of a node.
type secretRow struct {
	Node string `json:"node"` // its URL
	Role string `json:"role"`
	wire.SecretUse
	UsesOld bool `json:"uses_old"` // it proves a value that another node has as its old one
}

// secretRows lists the secrets of all nodes, and the nodes that have not said which they use.
func secretRows(c *wire.Cluster) (rows []secretRow, silent []secretRow) {
	add := func(role, url, id string, uses []wire.SecretUse) {
		if url == "" {
			url = id
		}
		if len(uses) == 0 {
			silent = append(silent, secretRow{Node: url, Role: role})
		}
		for _, u := range uses {
			rows = append(rows, secretRow{Node: url, Role: role, SecretUse: u})
		}
	}
	for i := range c.Masters {
		add("master", c.Masters[i].URL, c.Masters[i].ID, c.Masters[i].Secrets)
	}
	for i := range c.Storages {
		add("storage", c.Storages[i].URL, c.Storages[i].ID, c.Storages[i].Secrets)
	}
	for i := range c.Miners {
		add("miner", c.Miners[i].URL, c.Miners[i].ID, c.Miners[i].Secrets)
	}
	all := make([]wire.SecretUse, len(rows))
	for i := range rows {
		all[i] = rows[i].SecretUse
	}
	for i := range rows {
		rows[i].UsesOld = rows[i].SecretUse.UsesOld(all)
	}
	return rows, silent
}

func newSecretStatusCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "status",
		Short: "Show which values of the secrets each node proves and accepts",
		Long: `Show which values of the secrets each node proves and accepts, and which nodes prove an old value. Values
are named by fingerprints, from which they cannot be found. "weak" is a value that is too weak to show one.`,
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object a line for each secret of a node"},
		func(c *cli.Call) error {
			status, err := c.Cluster(c.Ctx)
			if err != nil {
				return err
			}
			rows, silent := secretRows(&status)
			return cli.PrintList(c, rows, secretsText(rows, silent))
		})
}

// secretsText formats the secrets as a table.
func secretsText(rows, silent []secretRow) string {
	titles := render.Row{"NODE", "ROLE", "SECRET", "FROM", "CURRENT", "ALSO ACCEPTS", "USES OLD", "ERROR"}
	table := render.Rows(titles, rows, func(r *secretRow) render.Row {
		from, also, old, wrong := "own file", "-", "no", "-"
		switch {
		case r.Shared && r.Fixed:
			from = "cluster token, fixed"
		case r.Shared:
			from = "cluster token"
		}
		if r.Next != "" {
			also = "next " + r.Next
		} else if r.Old != "" {
			also = "old " + r.Old
		}
		if r.UsesOld {
			old = "YES"
		}
		if r.Error != "" {
			wrong = r.Error
		}
		return render.Row{r.Node, r.Role, r.Secret, from, r.Current, also, old, wrong}
	})
	text := render.Table(table...)
	if len(silent) > 0 {
		text += "\nNot known, because they do not answer or are of an older version: " + nodesOf(silent) + "\n"
	}
	return text
}

// nodesOf lists nodes, each once.
func nodesOf(rows []secretRow) string {
	var list []string
	for i := range rows {
		if text := rows[i].Role + " " + rows[i].Node; !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return strings.Join(list, ", ")
}
