package admin

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/wire"
)

// NewAdminToken is the parent of the commands on named admin tokens.
func NewAdminToken() *cobra.Command {
	return cli.Group(&cobra.Command{
		Use:   "admin-token",
		Short: "Create, list and revoke the tokens of administrators",
		Long: `Create, list and revoke named admin tokens. Each has a role and expires. A named token is used like the
admin token of the masters, with --admin-token-file.

Roles:

  admin     may do everything
  operator  runs the cluster: checks, settings, members, workers, keys of the log, profiles
  auditor   only reads: status, integrity, projects, lists of tokens`,
	}, newAdminTokenCreateCommand(), newAdminTokenListCommand(), newAdminTokenRevokeCommand())
}

const secondsPerDay = 24 * 3600

func newAdminTokenCreateCommand() *cobra.Command {
	var a wire.NewAdmin
	var days uint64
	cmd := cli.UseCluster(&cobra.Command{
		Use:   "create NAME --role admin|operator|auditor",
		Short: "Create an admin token and print it, which is shown only once",
		Long: `Create an admin token and print it, which is shown only once. The name identifies its holder, and no
other admin token may have it. The command needs an admin token with the role admin.

To replace a token, create another one under another name, and revoke the old one.`,
		Example: `  chainstore admin-token create alice --role operator --days 30
  chainstore admin-token create audit-2027 --role auditor --json | jq -r .token > auditor.token`,
		Args: cli.ExactArgs("one token"),
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object"}, func(c *cli.Call) error {
		switch {
		case a.Role == "":
			return errors.New("name its role: --role admin, operator or auditor")
		case days == 0 || days > wire.MaxAdminSeconds/secondsPerDay:
			return fmt.Errorf("--days %d is not within 1 and %d", days, wire.MaxAdminSeconds/secondsPerDay)
		}
		seconds := days * secondsPerDay
		a.Name, a.ValidSeconds = c.Args[0], &seconds
		created, err := c.CreateAdmin(c.Ctx, a)
		if err != nil {
			return err
		}
		return printToken(c, created, render.Table(
			render.Row{"id", created.ID}, render.Row{"name", created.Name}, render.Row{"role", created.Role},
			render.Row{"expires", render.LocalTime(created.Expires)}, render.Row{"token", created.Token}))
	})
	cmd.Flags().StringVar(&a.Role, "role", "", "what it may do: admin, operator or auditor")
	cmd.Flags().Uint64Var(&days, "days", wire.DefaultAdminSeconds/secondsPerDay, "days until it expires")
	cli.NoFiles(cmd, "days")
	cli.MustComplete(cmd.RegisterFlagCompletionFunc("role", cobra.FixedCompletions(wire.AdminRoles,
		cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func newAdminTokenListCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "list",
		Short: "List the admin tokens with their roles, without their secrets",
	}, cli.Use{Role: cli.AsAdmin, JSON: "print one JSON object a line for each token"}, func(c *cli.Call) error {
		admins, err := c.Admins(c.Ctx)
		if err != nil {
			return err
		}
		titles := render.Row{"ID", "NAME", "ROLE", "CREATED", "EXPIRES", "STATE"}
		rows := render.Rows(titles, admins, func(a *wire.Admin) render.Row {
			state := "valid"
			if a.Expired {
				state = "expired"
			}
			return render.Row{a.ID, a.Name, a.Role, render.LocalTime(a.Created), render.LocalTime(a.Expires), state}
		})
		return cli.PrintList(c, admins, render.Fit(render.Width(c.Out), []int{1}, rows...))
	})
}

func newAdminTokenRevokeCommand() *cobra.Command {
	return cli.UseCluster(&cobra.Command{
		Use:   "revoke ID",
		Short: "Revoke an admin token",
		Args:  cli.ExactArgs("one token", ": 'chainstore admin-token list' lists them"),
	}, cli.Use{Role: cli.AsAdmin}, func(c *cli.Call) error {
		id, err := strconv.ParseUint(c.Args[0], 10, 32)
		if err != nil {
			return errors.New("a token is named by its id, a number that 'chainstore admin-token list' prints")
		}
		if err := c.RevokeAdmin(c.Ctx, uint32(id)); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.Out, "admin token %d is revoked\n", id)
		return err
	})
}
