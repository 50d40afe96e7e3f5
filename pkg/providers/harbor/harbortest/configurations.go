package harbortest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// settingKind is what a setting may be, and with it how it is shown.
type settingKind int

const (
	ofText       settingKind = iota
	ofNeededText             // may be empty only until it was set
	ofSecret                 // never shown
	ofMap                    // JSON in a text, which is written anew
	ofNumber
	ofPositive
	ofScope // 0, 1 or 2
	ofQuota
	ofFlag
	ofAuthMode
	ofRestriction
	ofNothing // shown without a value
)

// setting is one key that users may set, and what it is at first.
type settingRule struct {
	key   string
	kind  settingKind
	first string
}

// settingRules are the keys of Harbor's user scope.
func settingRules() []settingRule {
	return []settingRule{
		{"audit_log_forward_endpoint", ofText, ""},
		{"auth_mode", ofAuthMode, "db_auth"},
		{"banner_message", ofText, ""},
		{"disabled_audit_log_event_types", ofText, ""},
		{"http_authproxy_admin_groups", ofText, ""},
		{"http_authproxy_admin_usernames", ofText, ""},
		{"http_authproxy_endpoint", ofText, ""},
		{"http_authproxy_server_certificate", ofText, ""},
		{"http_authproxy_skip_search", ofFlag, "false"},
		{"http_authproxy_tokenreview_endpoint", ofText, ""},
		{"http_authproxy_verify_cert", ofFlag, "true"},
		{"ldap_base_dn", ofNeededText, ""},
		{"ldap_filter", ofText, ""},
		{"ldap_group_admin_dn", ofText, ""},
		{"ldap_group_attach_parallel", ofFlag, "false"},
		{"ldap_group_attribute_name", ofText, ""},
		{"ldap_group_base_dn", ofText, ""},
		{"ldap_group_membership_attribute", ofText, "memberof"},
		{"ldap_group_search_filter", ofText, ""},
		{"ldap_group_search_scope", ofScope, "2"},
		{"ldap_scope", ofScope, "2"},
		{"ldap_search_dn", ofText, ""},
		{"ldap_search_password", ofSecret, ""},
		{"ldap_timeout", ofNumber, "5"},
		{"ldap_uid", ofNeededText, "cn"},
		{"ldap_url", ofNeededText, ""},
		{"ldap_verify_cert", ofFlag, "true"},
		{"notification_enable", ofFlag, "true"},
		{"oidc_admin_group", ofText, ""},
		{"oidc_auto_onboard", ofFlag, "false"},
		{"oidc_client_id", ofText, ""},
		{"oidc_client_secret", ofSecret, ""},
		{"oidc_endpoint", ofText, ""},
		{"oidc_extra_redirect_parms", ofMap, "{}"},
		{"oidc_group_filter", ofText, ""},
		{"oidc_groups_claim", ofText, ""},
		{"oidc_logout", ofFlag, "false"},
		{"oidc_name", ofText, ""},
		{"oidc_scope", ofText, ""},
		{"oidc_user_claim", ofText, ""},
		{"oidc_verify_cert", ofFlag, "true"},
		{"primary_auth_mode", ofFlag, "false"},
		{"project_creation_restriction", ofRestriction, "everyone"},
		{"quota_per_project_enable", ofFlag, "true"},
		{"read_only", ofFlag, "false"},
		{"robot_name_prefix", ofText, "robot$"},
		{"robot_token_duration", ofPositive, "30"},
		{"scan_all_policy", ofNothing, ""},
		{"scanner_skip_update_pulltime", ofFlag, "false"},
		{"self_registration", ofFlag, "false"},
		{"session_timeout", ofPositive, "60"},
		{"skip_audit_log_database", ofFlag, "false"},
		{"storage_per_project", ofQuota, "-1"},
		{"token_expiration", ofPositive, "30"},
		{"uaa_client_id", ofText, ""},
		{"uaa_client_secret", ofText, ""},
		{"uaa_endpoint", ofText, ""},
		{"uaa_verify_cert", ofFlag, "false"},
	}
}

func (s *Server) configurations() routes {
	for _, rule := range s.settingRules() {
		s.rules[rule.key] = rule.first
	}
	return routes{
		"GET /configurations": s.showConfigurations,
		"PUT /configurations": s.updateConfigurations,
	}
}

func (s *Server) setting(key string) string   { return s.rules[key] }
func (s *Server) settingFlag(key string) bool { return s.rules[key] == "true" }
func (s *Server) readOnly() bool              { return s.settingFlag("read_only") }
func (s *Server) settingNumber(k string) int64 {
	n, _ := strconv.ParseInt(s.rules[k], 10, 64)
	return n
}

func (s *Server) showConfigurations(c *call) (answer, error) {
	if err := c.inSystem("configuration", "read"); err != nil {
		return answer{}, err
	}
	type value struct {
		Editable bool            `json:"editable"`
		Value    json.RawMessage `json:"value"`
	}
	all := map[string]any{}
	for _, rule := range s.settingRules() {
		v := value{Editable: true}
		switch rule.kind {
		case ofSecret:
			continue
		case ofNothing:
			all[rule.key] = struct{}{}
			continue
		case ofNumber, ofPositive, ofScope, ofQuota, ofFlag:
			v.Value = json.RawMessage(s.rules[rule.key])
		case ofAuthMode:
			// it can be changed only as long as admin is the only user
			v.Editable = s.onlyAdmin()
			v.Value = quoted(s.rules[rule.key])
		default:
			v.Value = quoted(s.rules[rule.key])
		}
		all[rule.key] = v
	}
	return shown(all)
}

func quoted(s string) json.RawMessage {
	b, _ := json.Marshal(s) // texts always can
	return b
}

func (s *Server) updateConfigurations(c *call) (answer, error) {
	if err := c.inSystem("configuration", "update"); err != nil {
		return answer{}, err
	}
	given, err := decode[map[string]json.RawMessage](c)
	if err != nil {
		return answer{}, err
	}
	values := map[string]string{}
	kinds := map[string]settingKind{}
	for _, rule := range s.settingRules() {
		if raw, has := given[rule.key]; has && string(raw) != "null" {
			kinds[rule.key], values[rule.key] = rule.kind, plain(raw)
		}
	}
	if r := s.checkSettings(values, kinds); r != nil {
		return answer{}, r
	}
	for key, value := range values {
		if kinds[key] == ofMap {
			var b bytes.Buffer
			_ = json.Compact(&b, []byte(value)) // it was checked
			value = b.String()
		}
		s.rules[key] = value
	}
	// an address nothing listens at is refused, and kept all the same
	if at := values["audit_log_forward_endpoint"]; at != "" && s.options.Remotes(Remote{Kind: "audit", URL: at}) != Healthy {
		return answer{}, badRequest("bad request: could not connect to the audit endpoint: %s", at)
	}
	return done()
}

// plain is a JSON value as the text it is kept as.
func plain(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return text
	}
	return string(raw)
}

func (s *Server) checkSettings(values map[string]string, kinds map[string]settingKind) *refusal {
	if mode, has := values["auth_mode"]; has && mode != s.setting("auth_mode") && !s.onlyAdmin() {
		return badRequest("the auth mode cannot be modified as new users have been inserted into database")
	}
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		if err := kinds[key].check(key, values[key]); err != nil {
			return badRequest("bad request: %v", err)
		}
	}
	if r := s.checkGroups(values); r != nil {
		return r
	}
	skip, endpoint := s.settingFlag("skip_audit_log_database"), s.setting("audit_log_forward_endpoint")
	v, changesSkip := values["skip_audit_log_database"]
	if changesSkip {
		skip = v == "true"
	}
	at, changesEndpoint := values["audit_log_forward_endpoint"]
	if changesEndpoint {
		endpoint = at
	}
	if (changesSkip || changesEndpoint) && skip && endpoint == "" {
		return badRequest("bad request: audit log forward endpoint should be configured before enable skip audit log in database")
	}
	for _, key := range keys {
		n, err := strconv.ParseInt(values[key], 10, 64)
		switch {
		case err != nil || kinds[key] != ofPositive:
		case n <= 0:
			return badRequest("the %s value must be positive", key)
		case n > mostOfPositive:
			return badRequest("the %s value is over the limit value: %d", key, mostOfPositive)
		}
	}
	return nil
}

// mostOfPositive is all that the portal has room for.
const mostOfPositive = 9999999999

// checkGroups wants how LDAP names its groups once they are searched for.
func (s *Server) checkGroups(values map[string]string) *refusal {
	const filter, name, members = "ldap_group_search_filter", "ldap_group_attribute_name", "ldap_group_membership_attribute"
	then := map[string]string{}
	changes := false
	for _, key := range []string{filter, name, members} {
		value, given := values[key]
		if !given {
			value = s.setting(key)
		}
		then[key], changes = value, changes || given
	}
	switch {
	case !changes || then[filter] == "":
	case then[name] == "":
		return badRequest("bad request: ldap group name attribute can not be empty")
	case then[members] == "":
		return badRequest("bad request: ldap group membership attribute can not be empty")
	}
	return nil
}

// check says what is wrong with a value.
func (k settingKind) check(key, value string) error {
	item := func(format string, of ...any) error {
		return fmt.Errorf("item name "+key+": "+format, of...)
	}
	switch k {
	case ofNeededText:
		if strings.TrimSpace(value) == "" {
			return item("the configure value can not be empty")
		}
	case ofMap:
		var m map[string]string
		if err := json.Unmarshal([]byte(value), &m); err != nil {
			return item("%w", err)
		}
	case ofScope:
		if value != "0" && value != "1" && value != "2" {
			return item("invalid scope, should be 0, 1 or 2")
		}
	case ofQuota:
		n, err := strconv.ParseInt(value, 10, 64)
		if err == nil && n <= 0 && n != -1 {
			return fmt.Errorf("invalid non-positive value for quota limit, value=%d", n)
		}
	case ofAuthMode:
		if !slices.Contains([]string{"db_auth", "ldap_auth", "uaa_auth", "http_auth", "oidc_auth"}, value) {
			return item("invalid auth_mode, shoud be one of db_auth, ldap_auth, uaa_auth, http_auth, oidc_auth")
		}
	case ofRestriction:
		if value != "adminonly" && value != "everyone" {
			return item("invalid project_creation_restriction, should be adminonly or everyone")
		}
	}
	return nil
}
