/* cloudcore.yaml (resource-sync.md 8.7 to 8.9) as a struct. Keys of the original that have no effect here are known to
 * the table and told about at info level; everything else unknown is warned about. */
#pragma once

#include "base/config.h"

struct cloud_config {
    struct {
        char *bind_address;
    } monitor;
    struct {
        char *master, *kube_config;
    } kube_api;
    struct {
        bool enable;
        int64_t keepalive_interval_s, node_limit, edge_cert_days, token_refresh_hours;
        int64_t threads; /* ours: modules.cloudHub.threads */
        char *ca_file, *ca_key_file, *cert_file, *key_file;
        bool websocket_enable, https_enable;
        char *websocket_address, *https_address;
        int64_t websocket_port, https_port;
        struct strlist advertise_addresses, dns_names;
        bool authorization_enable, authorization_debug;
    } hub;
    struct {
        bool enable;
        int64_t node_update_frequency_s;
    } edge_controller;
    struct {
        bool enable;
    } device_controller;
    struct {
        bool enable;
        int64_t tunnel_port, stream_port;
        char *tunnel_ca_file, *tunnel_cert_file, *tunnel_key_file; /* where unreadable: CloudHub's */
        char *stream_cert_file, *stream_key_file;                  /* where unreadable: as above, or the API server's */
    } stream;
};

extern const struct config_schema cloud_config_schema;

/* Defaults, then the file (NULL: defaults only), then the checks. The advertised address defaults to this machine's. */
int cloud_config_load(struct cloud_config *c, const char *path, struct error *err) MUST_CHECK;
void cloud_config_free(struct cloud_config *c);
