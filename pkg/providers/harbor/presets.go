package harbor

import (
	"slices"
	"strings"

	"github.com/ocisync/ocisync/schema"
)

// presets are the settings with which a Harbor comes, but those that are off, empty or
// zero.
func presets() map[string]string {
	return map[string]string{
		"auth_mode":                       `"db_auth"`,
		"http_authproxy_verify_cert":      "true",
		"ldap_group_membership_attribute": `"memberof"`,
		"ldap_group_search_scope":         "2",
		"ldap_scope":                      "2",
		"ldap_timeout":                    "5",
		"ldap_uid":                        `"cn"`,
		"ldap_verify_cert":                "true",
		"notification_enable":             "true",
		"oidc_verify_cert":                "true",
		"project_creation_restriction":    `"everyone"`,
		"quota_per_project_enable":        "true",
		prefixSetting:                     `"` + defaultPrefix + `"`,
		"robot_token_duration":            "30",
		"session_timeout":                 "60",
		"storage_per_project":             "-1",
		"token_expiration":                "30",
	}
}

// Chosen implements [providers.Chooser]. A secret that Harbor never shows counts where
// something else is chosen of what it is for. Where a robot is denied something, its
// permissions are not managed, as no mode says that.
func (p *Provider) Chosen(live schema.Resource) schema.Resource {
	if robot, ok := live.Spec.(*schema.Robot); ok && len(granted(robot.Permissions)) < len(robot.Permissions) {
		out := *robot
		out.Permissions = nil
		live.Spec = &out
	}
	spec, ok := live.Spec.(*schema.Settings)
	if !ok {
		return live
	}
	known := presets()
	values := slices.DeleteFunc(slices.Clone(spec.Values), func(v schema.Value) bool {
		if preset, ok := known[v.Path]; ok {
			return v.JSON == preset
		}
		return slices.Contains([]string{"false", "0", `""`}, v.JSON)
	})
	unread := slices.DeleteFunc(slices.Clone(live.Unread), func(path string) bool {
		name := strings.TrimPrefix(path, "values.")
		of, _, _ := strings.Cut(name, "_")
		return slices.Contains(unreadable(), name) &&
			!slices.ContainsFunc(values, func(v schema.Value) bool { return strings.HasPrefix(v.Path, of+"_") })
	})
	live.Spec, live.Unread = &schema.Settings{Values: values}, unread
	return live
}
